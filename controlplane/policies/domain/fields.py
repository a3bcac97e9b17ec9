"""The catalogue of policy fields: what each is called, its unit, range, default and help.

Built once from the models; a path with a name in it (`outbound.dependencies.payments.retry...`)
finds the declaration that holds for every name.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic.fields import FieldInfo

from controlplane.kernel.jsondoc import format_path, parse_path
from controlplane.policies.domain.declare import NAMES, Block, Names
from controlplane.policies.domain.schema import PolicyDocument, defaults_of

Kind = Literal["integer", "number", "boolean", "choice", "list", "text"]


@dataclass(frozen=True, slots=True)
class Field:
    """One value of the document, as a form control or a reference page needs it.

    `unit` is empty where there is none. `minimum` and `maximum` are inclusive, None for what is
    not a number. `default` is the built-in value, None where there is none. `choices` are the
    words a `choice` takes.
    """

    path: str
    title: str
    unit: str
    minimum: float | None
    maximum: float | None
    default: object
    help: str
    kind: Kind
    choices: tuple[str, ...] = ()
    is_nullable: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """An object of the document: fixed children, or, for a map, one `entry` for every name."""

    title: str
    help: str
    children: Mapping[str, Node]
    names: Names | None = None
    entry: Section | None = None
    is_nullable: bool = False

    def child(self, key: str) -> Node | None:
        """Return what stands under `key`; None when nothing may."""
        if self.entry is None:
            return self.children.get(key)
        return self.entry if self.names is not None and self.names.allows(key) else None


Node = Section | Field


def node_for(parts: tuple[str, ...]) -> Node | None:
    """Return what the document may hold at a path; None when nothing."""
    node: Node | None = DOCUMENT
    for part in parts:
        node = node.child(part) if isinstance(node, Section) else None
    return node


def field_for(path: str) -> Field | None:
    """Return the field at a concrete path, with that path; None when no field is there."""
    try:
        node = node_for(parse_path(path))
    except ValueError:
        return None
    return dataclasses.replace(node, path=path) if isinstance(node, Field) else None


def list_fields() -> list[Field]:
    """Return every field in document order; names in paths are `<dependency>`, `<tenant>`, ..."""
    return list(_fields_under(DOCUMENT))


def fields_of(policy: Mapping[str, Any]) -> list[Field]:
    """Return the fields that a policy has values for, in its order, with their concrete paths."""
    return list(_fields_in(policy, DOCUMENT, ()))


def _fields_under(node: Node) -> Iterator[Field]:
    if isinstance(node, Field):
        yield node
        return
    for child in node.children.values():
        yield from _fields_under(child)
    if node.entry is not None:
        yield from _fields_under(node.entry)


def _fields_in(value: object, node: Node, parts: tuple[str, ...]) -> Iterator[Field]:
    if isinstance(node, Field):
        yield dataclasses.replace(node, path=format_path(parts))
    elif isinstance(value, Mapping):
        for key, item in value.items():
            child = node.child(key)
            if child is not None:
                yield from _fields_in(item, child, (*parts, key))


def _section(
    block: type[Block], parts: tuple[str, ...], title: str, help_text: str, nullable: bool = False
) -> Section:
    defaults = defaults_of(block)
    hints = typing.get_type_hints(block, include_extras=True)
    children = {
        name: _node(info, hints[name], defaults[name], (*parts, name))
        for name, info in block.model_fields.items()
    }
    return Section(title, help_text, children, is_nullable=nullable)


def _node(info: FieldInfo, annotation: Any, default: object, parts: tuple[str, ...]) -> Node:
    kind, nullable = _without_none(annotation)
    title, help_text = info.title or "", info.description or ""
    if isinstance(kind, type) and issubclass(kind, Block):
        return _section(kind, parts, title, help_text, nullable)
    if typing.get_origin(kind) is dict:
        names = NAMES[parts[-1]]
        entry, _ = _without_none(typing.get_args(kind)[1])
        inner = _section(entry, (*parts, f"<{names.noun}>"), entry.__doc__ or "", "", True)
        return Section(title, help_text, {}, names, inner)
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    return Field(
        path=_pattern_path(parts),
        title=title,
        unit=str(extra.get("unit", "")),
        minimum=_bound(info, "ge"),
        maximum=_bound(info, "le"),
        default=default,
        help=help_text,
        kind=_kind_of(kind),
        choices=typing.get_args(kind) if typing.get_origin(kind) is Literal else (),
        is_nullable=nullable,
    )


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        arms = [arm for arm in typing.get_args(annotation) if arm is not type(None)]
        return arms[0], True
    return annotation, False


def _pattern_path(parts: tuple[str, ...]) -> str:
    """A path for people: names stand as `<dependency>`, unquoted."""
    return ".".join(parts).replace(".<endpoint>", '["<endpoint>"]')


def _bound(info: FieldInfo, name: str) -> float | None:
    for constraint in info.metadata:
        bound: float | None = getattr(constraint, name, None)
        if bound is not None:
            return bound
    return None


def _kind_of(kind: Any) -> Kind:
    if typing.get_origin(kind) is Literal:
        return "choice"
    if typing.get_origin(kind) is list:
        return "list"
    kinds: dict[Any, Kind] = {int: "integer", float: "number", bool: "boolean"}
    return kinds.get(kind, "text")


DOCUMENT = _section(PolicyDocument, (), "Policy", PolicyDocument.__doc__ or "")
