"""What the Tune form says: which fields changed, for how long, and why.

Every control is submitted with what it showed (`was:<path>`), so that only what a person changed
goes into the patch, even when the policy has changed meanwhile. A script leaves out the groups of
controls that nobody touched; without it all of them come, thousands for a large service.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.http import QueryDict

from controlplane.kernel.jsondoc import format_path, parse_path
from controlplane.policies.domain.fields import Field, field_for
from dashboards.forms.canary import DEFAULT_PERCENT, read_ratio
from dashboards.forms.policy_values import NEEDED, Unreadable, is_same, parsed
from dashboards.forms.reasons import read_number
from dashboards.templatetags.policy_text import may_be_empty

WAS = "was:"
LASTS = (("300", "5 m"), ("900", "15 m"), ("3600", "1 h"), ("14400", "4 h"), ("28800", "8 h"))
DEFAULT_LASTS = "3600"
CUSTOM, PERMANENT = "custom", "permanent"
EVERYBODY, CANARY = "all", "canary"
TENANT_FIELDS = ("tenant.name", "tenant.per_s", "tenant.burst")
LONGEST_REASON = 500
HALF_A_LIMIT = "A limit needs both numbers; empty both to remove it."


@dataclass(frozen=True, slots=True)
class Submission:
    """One reading of the form. `errors` is keyed by the name of the input."""

    texts: Mapping[str, str]
    was: Mapping[str, str]
    patch: Mapping[str, Any]
    changed: tuple[str, ...]
    errors: Mapping[str, str]
    lasts_choice: str = DEFAULT_LASTS
    custom_s: str = ""
    lasts: timedelta | None = None
    reason: str = ""
    version_number: int | None = None
    reach: str = EVERYBODY
    percent: str = DEFAULT_PERCENT

    @property
    def is_canary(self) -> bool:
        """Whether this starts a canary: a candidate version on a part of the instances."""
        return self.reach == CANARY

    @property
    def is_permanent(self) -> bool:
        """Whether this publishes a version instead of opening an override."""
        return self.lasts_choice == PERMANENT


@dataclass(slots=True)
class _Reading:
    """What reading the controls has found so far."""

    patch: dict[str, Any] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


def read_submission(data: QueryDict) -> Submission:
    """Read the posted form, with every problem of shape in what people type.

    Raises:
        InvalidInput: a hidden field holds what no page put there.
    """
    was = {name.removeprefix(WAS): str(data[name]) for name in data if name.startswith(WAS)}
    # A control that was not sent is not one that was emptied.
    was = {path: text for path, text in was.items() if path in data}
    texts = {path: str(data[path]) for path in was}
    reading = _Reading()
    for path, text in texts.items():
        found = field_for(path)
        if not is_same(found, text, was[path]):
            _read_control(reading, path, text, was, found)
    _close_blocks(reading, texts, was)
    texts |= {name: str(data.get(name, "")).strip() for name in TENANT_FIELDS}
    _read_new_tenant(reading, texts)
    choice = str(data.get("lasts", DEFAULT_LASTS))
    custom_s = str(data.get("custom_s", "")).strip()
    return Submission(
        texts=texts,
        was=was,
        patch=reading.patch,
        changed=tuple(reading.changed),
        errors=reading.errors,
        lasts_choice=choice,
        custom_s=custom_s,
        lasts=_lasts(choice, custom_s),
        reason=str(data.get("reason", "")).strip(),
        version_number=_version_number(data),
        reach=CANARY if data.get("reach") == CANARY else EVERYBODY,
        percent=str(data.get("percent", DEFAULT_PERCENT)).strip(),
    )


def check_apply(submission: Submission) -> dict[str, str]:
    """The problems that only matter when the change is applied, by name of the input."""
    errors: dict[str, str] = {}
    if not submission.reason:
        errors["reason"] = "Say why: it is shown in the change log and on every chart."
    elif len(submission.reason) > LONGEST_REASON:
        errors["reason"] = f"Use at most {LONGEST_REASON} characters."
    if submission.is_canary and read_ratio(submission.percent) is None:
        errors["percent"] = "Enter how many of the instances it reaches: more than 0%, up to 100%."
    if submission.is_canary and submission.is_permanent:
        errors["lasts"] = (
            "A canary ends by itself: choose for how long, and promote it when it has held."
        )
    if not submission.is_permanent and submission.lasts is None:
        errors["lasts"] = (
            "Enter whole seconds, such as 20."
            if submission.lasts_choice == CUSTOM
            else ("Choose how long the change lasts.")
        )
    if not submission.changed and not submission.errors:
        errors["form"] = "Nothing to apply: change at least one value first."
    return errors


def is_not_removable(submission: Submission, path: str) -> bool:
    """Whether a change empties a field that a version cannot hold empty."""
    can_be_empty = not (submission.is_permanent or submission.is_canary)
    if can_be_empty or path not in submission.texts or submission.texts[path].strip():
        return False
    found, parts = field_for(path), parse_path(path)
    return found is not None and not found.is_nullable and block_of(parts) is None


def block_of(parts: tuple[str, ...]) -> tuple[str, ...] | None:
    """The limit that a leaf is half of; None when the leaf stands alone."""
    is_own = parts[:2] in (("inbound", "tenants"), ("inbound", "endpoints"))
    is_limit = is_own and parts[-1] in ("per_s", "burst")
    return parts[:-1] if is_limit else None


def _read_control(
    reading: _Reading, path: str, text: str, was: Mapping[str, str], found: Field | None
) -> None:
    if found is None:
        reading.errors[path] = "No policy field has that name."
        return
    parts = parse_path(path)
    if not text.strip():
        if may_be_empty(found, parts):
            _set(reading.patch, parts, None)
            reading.changed.append(path)
        else:
            reading.errors[path] = NEEDED.format(was=was[path] or "a value")
        return
    try:
        _set(reading.patch, parts, parsed(found, text))
        reading.changed.append(path)
    except Unreadable as error:
        reading.errors[path] = str(error)


def _close_blocks(reading: _Reading, texts: Mapping[str, str], was: Mapping[str, str]) -> None:
    """A limit has both numbers or none: emptied as a whole it is deleted, in half it is refused."""
    for block, paths in _blocks(texts).items():
        if not any(path in reading.changed for path in paths):
            continue
        empty = [path for path in paths if not texts[path].strip()]
        halves = {format_path((*block, name)) for name in ("per_s", "burst")}
        if halves <= set(empty):
            _set(reading.patch, block, None)
        elif empty:
            for path in empty:
                reading.errors[path] = HALF_A_LIMIT


def _blocks(texts: Mapping[str, str]) -> dict[tuple[str, ...], list[str]]:
    blocks: dict[tuple[str, ...], list[str]] = {}
    for path in texts:
        block = block_of(parse_path(path)) if field_for(path) is not None else None
        if block is not None:
            blocks.setdefault(block, []).append(path)
    return blocks


def _read_new_tenant(reading: _Reading, texts: Mapping[str, str]) -> None:
    name, per_s, burst = (texts[each] for each in TENANT_FIELDS)
    if not (name or per_s or burst):
        return
    if not name:
        reading.errors["tenant.name"] = "Name the tenant as it appears in X-Tenant."
        return
    for key, text, example in (("per_s", per_s, "50"), ("burst", burst, "20")):
        path = format_path(("inbound", "tenants", "named", name, key))
        found = field_for(path)
        try:
            if found is None or not text:
                raise Unreadable(f"A tenant limit needs both numbers, such as {example}.")
            _set(reading.patch, parse_path(path), parsed(found, text))
            reading.changed.append(path)
        except Unreadable as error:
            reading.errors[f"tenant.{key}"] = str(error)


def _set(patch: dict[str, Any], parts: tuple[str, ...], value: object) -> None:
    for part in parts[:-1]:
        inner = patch.setdefault(part, {})
        if not isinstance(inner, dict):  # the block itself is deleted
            return
        patch = inner
    patch[parts[-1]] = value


def _lasts(choice: str, custom_s: str) -> timedelta | None:
    text = custom_s if choice == CUSTOM else choice
    seconds = _whole(text)
    return None if seconds is None or choice == PERMANENT else timedelta(seconds=seconds)


def _version_number(data: QueryDict) -> int | None:
    """The version that the form was drawn from; None when it does not say."""
    text = str(data.get("version_number", ""))
    return read_number(text, "version_number") if text else None


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
