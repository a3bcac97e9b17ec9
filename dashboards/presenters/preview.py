"""What a change would do to the effective policy, before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.kernel.jsondoc import parse_path
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.diff import FieldChange, diff_effective
from controlplane.policies.domain.guardrails import check_guardrails
from controlplane.policies.domain.patches import patched_document
from controlplane.policies.domain.resolve import Layer, Resolved, resolve
from controlplane.policies.domain.validate import validate_patch
from controlplane.policies.selectors import current_version, policy_layers
from controlplane.registry.selectors import get_service
from dashboards.presenters.values import ChangedField, changed_fields, problem_text

Kind = Literal["override", "version", "canary"]


@dataclass(frozen=True, slots=True)
class Note:
    """One sentence about the change, and how serious it is: stop, warn or ok."""

    level: str
    text: str

    @property
    def shape(self) -> str:
        """The glyph before it."""
        return {"stop": "▲", "warn": "!", "ok": "✓"}[self.level]


@dataclass(frozen=True, slots=True)
class Preview:
    """The region beside the form."""

    service_slug: str
    fields: tuple[ChangedField, ...]
    notes: tuple[Note, ...]
    kind: Kind
    is_touched: bool

    @property
    def count(self) -> int:
        """How many fields of the effective policy change."""
        return len(self.fields)


def present_preview(
    *,
    environment: str,
    service_slug: str,
    patch: Mapping[str, Any],
    changed: Sequence[str],
    kind: Kind,
    shape_errors: Mapping[str, str],
    now: datetime,
) -> Preview:
    """Validate `patch` and compare the policy before and after; stores nothing.

    Args:
        changed: paths a person changed; may be more than the effective policy changes.
        kind: what it would become.
        shape_errors: what the form itself refused, by input.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    layers = policy_layers(service, now)
    notes = [Note("stop", f"{name}: {text}") for name, text in shape_errors.items()]
    fields: tuple[ChangedField, ...] = ()
    if changed and patch:
        problems = _problems(patch)
        if problems:
            notes += [
                Note("stop", f"{each.path}: {problem_text(each, patch)}") for each in problems
            ]
        else:
            version = current_version(service)
            document = {} if version is None else version.document
            before = resolve(layers)
            after = resolve(_with_change(layers, patch, document, kind))
            differing = diff_effective(before.policy, after.policy)
            fields = changed_fields(differing)
            notes += [Note("stop", str(each)) for each in check_policy(after.policy)]
            notes += _masked(changed, after, kind)
            notes += _nothing(differing, notes)
            notes += _guardrails(changed, before, after)
    return Preview(
        service_slug=service_slug,
        fields=fields,
        notes=tuple(notes),
        kind=kind,
        is_touched=bool(changed or shape_errors),
    )


def _problems(patch: Mapping[str, Any]) -> tuple[Problem, ...]:
    try:
        validate_patch(patch)
    except InvalidInput as error:
        return error.problems or (Problem(error.field or "", error.message),)
    return ()


def _with_change(
    layers: Sequence[Layer],
    patch: Mapping[str, Any],
    document: Mapping[str, Any],
    kind: Kind,
) -> list[Layer]:
    if kind == "override":
        return [*layers, Layer("override", "this change", patch)]
    version = Layer("version", "this version", patched_document(document, patch))
    below = [layer for layer in layers if layer.kind == "fleet_default"]
    above = [layer for layer in layers if layer.kind == "override"]
    return [*below, version, *above]


def _masked(changed: Sequence[str], after: Resolved, kind: Kind) -> list[Note]:
    """A version lies under the overrides: what they set is what instances keep enforcing."""
    if kind == "override":
        return []
    return [
        Note("warn", f"{path} stays as {leaf.layer} sets it until that ends.")
        for path in changed
        if (leaf := after.leaves.get(path)) is not None and leaf.kind == "override"
    ]


def _guardrails(changed: Sequence[str], before: Resolved, after: Resolved) -> list[Note]:
    """What the policy will do, as far as this change has to do with it."""
    known = set(check_guardrails(before.policy))
    touched = {_scope(path) for path in changed}
    found = [
        each
        for each in check_guardrails(after.policy)
        if _scope(each.path) in touched and (each not in known or each.verdict != "ok")
    ]
    found.sort(key=lambda each: ("stop", "warn", "ok").index(each.verdict))
    return [Note(each.verdict, each.sentence) for each in found]


def _scope(path: str) -> tuple[str, ...]:
    """What a field is about: its dependency, or its block of inbound."""
    parts = parse_path(path)
    return parts[:3] if parts[:2] == ("outbound", "dependencies") else parts[:2]


def _nothing(differing: Sequence[FieldChange], notes: Sequence[Note]) -> list[Note]:
    if differing or notes:
        return []
    return [Note("warn", "These values are in force already: nothing would change.")]
