"""Validation of documents and patches: every problem at once, each with its path.

Contradictions between fields depend on the layers below and are found by `checks`, on the
complete policy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from controlplane.kernel.errors import Problem
from controlplane.kernel.jsondoc import format_path
from controlplane.policies.domain import messages
from controlplane.policies.domain.document import invalid, plain_json
from controlplane.policies.domain.fields import DOCUMENT, Field, Node, Section, node_for
from controlplane.policies.domain.schema import PolicyDocument


def validate_document(document: object) -> dict[str, Any]:
    """Return a sparse document as it was written, with whole floats as integers; a copy.

    null is allowed only where it means something: for an optional part ("no limit"), and for an
    entry of a map ("not the one of the layer below").

    Raises:
        InvalidInput: with every problem; each names its path and says what would be right.
    """
    clean, problems = plain_json(document)
    problems += _field_problems(clean)
    if problems:
        raise invalid(problems)
    return dict(clean)


def validate_patch(patch: object) -> dict[str, Any]:
    """Return an RFC 7396 patch of a policy as it was written; a copy.

    Like a document, except that null may stand at any place and deletes what lower layers say.

    Raises:
        InvalidInput: with every problem, or because the patch changes nothing.
    """
    clean, problems = plain_json(patch)
    problems += _field_problems(_without_deletions(clean, DOCUMENT))
    if not problems and not _has_effect(clean, DOCUMENT):
        problems = [Problem("", "the patch changes nothing: set at least one field")]
    if problems:
        raise invalid(problems)
    return dict(clean)


def field_problems(policy: object) -> list[Problem]:
    """Return what is wrong with single fields of a document, in document order."""
    clean, problems = plain_json(policy)
    return problems + _field_problems(clean)


def _field_problems(clean: object) -> list[Problem]:
    if not isinstance(clean, dict):
        return [Problem("", f"a policy is an object, not {messages.kind_of(clean)}")]
    try:
        PolicyDocument.model_validate(clean)
    except ValidationError as error:
        return [_problem(details) for details in error.errors(include_url=False)]
    return _repeated_items(clean, DOCUMENT, ())


def _problem(details: ErrorDetails) -> Problem:
    """Translate one finding of pydantic into our words."""
    parts = tuple(str(part) for part in details["loc"])
    kind, given = details["type"], details["input"]
    if parts and parts[-1] == "[key]":
        return _name_problem(parts[:-1])
    if kind == "extra_forbidden":
        return _unknown_problem(parts)
    if details["loc"] and isinstance(details["loc"][-1], int):
        position = f"item {details['loc'][-1] + 1}: "
        return Problem(format_path(parts[:-1]), position + messages.wrong_item(given))
    node = node_for(parts)
    path = format_path(parts)
    if node is None:
        return Problem(path, details["msg"])
    if kind == "too_long":
        at_most = int(details.get("ctx", {})["max_length"])
        return Problem(path, messages.too_many(node, len(given), at_most))
    return Problem(path, _sentence(kind)(node, given))


def _sentence(kind: str) -> Callable[[Any, Any], str]:
    if kind in ("greater_than_equal", "less_than_equal"):
        return messages.out_of_range
    return messages.wrong_choice_or_kind if kind == "literal_error" else messages.wrong_kind


def _name_problem(parts: tuple[str, ...]) -> Problem:
    section = node_for(parts[:-1])
    assert isinstance(section, Section)  # noqa: S101  # only maps have keys to be wrong
    return Problem(format_path(parts), messages.bad_name(section, parts[-1]))


def _unknown_problem(parts: tuple[str, ...]) -> Problem:
    section = node_for(parts[:-1])
    assert isinstance(section, Section)  # noqa: S101  # only objects have fields to be unknown
    return Problem(format_path(parts), messages.unknown_field(section, parts[-1]))


def _repeated_items(value: Any, node: Node, parts: tuple[str, ...]) -> list[Problem]:
    """Lists are sets here; only a valid document is searched."""
    if isinstance(value, dict) and isinstance(node, Section):
        found: list[Problem] = []
        for key, item in value.items():
            if isinstance(item, dict | list):
                child = node.entry or node.children[key]
                found += _repeated_items(item, child, (*parts, key))
        return found
    if isinstance(value, list):
        repeated = sorted({item for item in value if value.count(item) > 1})
        return [
            Problem(format_path(parts), f"{item} stands there more than once: keep one")
            for item in repeated
        ]
    return []


def _without_deletions(value: Any, node: Node | None) -> Any:
    """Return a patch without the nulls that stand where the document has something to delete."""
    if not isinstance(value, dict) or not isinstance(node, Section):
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        child = node.child(key)
        if item is not None or child is None:
            kept[key] = _without_deletions(item, child)
    return kept


def _has_effect(value: Any, node: Node | None) -> bool:
    if value is None or isinstance(node, Field) or node is None:
        return True
    if node.is_nullable:
        return True
    return any(_has_effect(item, node.child(key)) for key, item in value.items())
