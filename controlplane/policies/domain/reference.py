"""The reference page of the policy document, written from the models.

`python -m controlplane.policies.domain.reference > docs/policies.md`; a test compares the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from controlplane.policies.domain.declare import Names
from controlplane.policies.domain.fields import DOCUMENT, Field, Node, Section
from controlplane.policies.domain.schema import EXAMPLE, SCHEMA_NAME

_INTRODUCTION = """\
# The policy document (`{schema}`)

Generated: `python -m controlplane.policies.domain.reference > docs/policies.md`.

A policy says how a service protects itself (`inbound`), how it calls others (`outbound`) and how
its instances leave (`lifecycle`). **Every limit is per instance**: each process enforces the whole
number by itself, so the fleet takes it times the number of instances.

A document is sparse: write only what you want to differ. For example:

```json
{example}
```

## Layers

Four layers, the strongest last: the built-in policy, the fleet default of the environment, the
service's version, and its overrides, oldest first. They merge as RFC 7396 says: an object merges
into the one below, a value or a list replaces the one below, and `null` deletes what lower layers
say.

Then what nobody set is completed, so that a delivered policy has every field:

- a dependency takes what it lacks from `outbound.defaults`. What any layer sets for one dependency
  outranks what any layer sets in `outbound.defaults`;
- an endpoint takes its `deadline_ms` and `criticality` from the service. Its own `rate`,
  `concurrency` and `tenants` exist only where some layer sets them, count besides those of the
  service, and take what they lack from there;
- a named tenant takes what it lacks from `tenants.default`;
- everything else comes from the built-in policy: the defaults below.

In a document `null` may stand for an optional part ("no limit of its own") and for an entry of a
map ("not the one of the layer below"). In an override it may stand anywhere.

The instances of a canary have its candidate in place of the version: see [canaries](canaries.md).

## What is refused

Unknown fields, values of another type (`"250"` and `true` are no numbers), values outside the
range, text that is not UTF-8, a key that comes twice, `NaN` and `Infinity`, documents over 256 KiB
or nested deeper than 16 levels. Every problem is named at once, each with its path.

So are contradictions of the complete policy: a wait in the queue as long as the deadline, a connect
timeout above the attempt timeout, a first backoff above the longest, retries on no failure, a retry
floor that never reaches one retry, more `min_calls` than a count window holds, a time window over
an hour, an Idempotency-Key demanded of `GET`, keys forgotten before the deadline, two endpoints
that differ only in the names of their parameters, and a tenant limit without `per_s`.

## Fields
"""

_HEAD = "| field | default | unit | from | to | meaning |\n| --- | --- | --- | --- | --- | --- |"

_INHERITED = {"endpoint": "the service's", "tenant": "that of `tenants.default`"}


def reference_page() -> str:
    """Return the page as Markdown: every section of the document in order, field by field."""
    example = json.dumps(EXAMPLE, indent=2)
    blocks = [_INTRODUCTION.format(schema=SCHEMA_NAME, example=example).rstrip()]
    for name, child in DOCUMENT.children.items():
        if isinstance(child, Section):
            blocks += _section(name, child)
    return "\n\n".join(blocks) + "\n"


def _section(path: str, section: Section) -> Iterator[str]:
    """Yield heading, help and table of a section, then those of the maps inside it."""
    yield f"### `{path}`\n\n{section.help}"
    rows = [_row(field_path, field) for field_path, field in _rows(section, "")]
    if rows:
        yield "\n".join([_HEAD, *rows])
    for name, child in _maps(section, path):
        yield from _map(name, child)


def _map(path: str, section: Section) -> Iterator[str]:
    names, entry = section.names, section.entry
    if names is None or entry is None:
        return
    where = f"{path}.<{names.noun}>"
    yield f"### `{where}`\n\n{section.help} {_names(names)}"
    if where == "outbound.dependencies.<dependency>":
        yield "The fields of `outbound.defaults`."
        return
    rows = [_row(path, field, _INHERITED.get(names.noun, "")) for path, field in _rows(entry, "")]
    yield "\n".join([_HEAD, *rows])
    for name, child in _maps(entry, where):
        yield from _map(name, child)


def _rows(node: Node, path: str) -> Iterator[tuple[str, Field]]:
    if isinstance(node, Field):
        yield path, node
        return
    for name, child in node.children.items():
        yield from _rows(child, f"{path}.{name}" if path else name)


def _maps(section: Section, path: str) -> Iterator[tuple[str, Section]]:
    for name, child in section.children.items():
        if isinstance(child, Section):
            if child.entry is not None:
                yield f"{path}.{name}", child
            else:
                yield from _maps(child, f"{path}.{name}")


def _row(path: str, field: Field, inherited: str = "") -> str:
    meaning = f"**{field.title}.** {field.help}"
    if field.choices:
        meaning = f"{meaning} One of {', '.join(f'`{choice}`' for choice in field.choices)}."
    cells = [
        f"`{path}`",
        inherited if inherited and not path.startswith("idempotency") else _default(field),
        field.unit,
        _bound(field.minimum),
        _bound(field.maximum),
        meaning.replace("|", "\\|"),
    ]
    return f"| {' | '.join(cells)} |"


def _default(field: Field) -> str:
    if field.default is None:
        return "`null`" if field.is_nullable else "none: say it"
    return f"`{json.dumps(field.default)}`"


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:,}"


def _names(names: Names) -> str:
    return f"A name: {names.form}; such as `{names.example}`."


if __name__ == "__main__":
    sys.stdout.write(reference_page())
