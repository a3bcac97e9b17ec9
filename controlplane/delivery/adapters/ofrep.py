"""A policy's features and shed level as flags of OFREP, the OpenFeature Remote Evaluation Protocol.

Every feature of `inbound.features` is a boolean flag of the same name. What Tidegate itself says
has names with a colon, which no feature can have, so that no feature is ever hidden by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

OWN_PREFIX = "tidegate:"
SHED_LEVEL = "tidegate:shed_level"
SHEDS = "tidegate:sheds"
DEFAULT_CRITICALITY = "tidegate:default_criticality"

SHED_ORDER = ("sheddable", "sheddable_plus", "critical")
"""What each further shed level refuses; level 1 sheds the first of them."""

Policy = Mapping[str, Any]
Flag = dict[str, Any]


class Reason(StrEnum):
    """Why a flag has its value, in OpenFeature's words."""

    STATIC = "STATIC"
    TARGETING_MATCH = "TARGETING_MATCH"
    DISABLED = "DISABLED"


class ErrorCode(StrEnum):
    """Why there is no value, in OpenFeature's words."""

    PARSE_ERROR = "PARSE_ERROR"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    GENERAL = "GENERAL"


@dataclass(frozen=True, slots=True)
class Source:
    """Which publication a flag was evaluated from; `cohort` is "stable" or "canary"."""

    sequence: int
    version: int
    cohort: str


def find_flag(policy: Policy, key: str, source: Source) -> Flag | None:
    """Return the evaluation of one flag, as the body of its 200; None for an unknown one."""
    own = _OWN.get(key)
    if own is not None:
        return own(policy, source)
    feature = policy["inbound"]["features"].get(key)
    return None if feature is None else _feature(key, feature, shed_level(policy), source)


def list_flags(policy: Policy, source: Source) -> list[Flag]:
    """Return the evaluation of every flag: features as the policy has them, then our own."""
    level = shed_level(policy)
    features = [
        _feature(name, feature, level, source)
        for name, feature in policy["inbound"]["features"].items()
        if feature is not None
    ]
    return [*features, *(own(policy, source) for own in _OWN.values())]


def shed_level(policy: Policy) -> int:
    """Return the shed level in force, 0 to 3."""
    return int(policy["inbound"]["shedding"]["level"])


def _feature(key: str, feature: Mapping[str, Any], level: int, source: Source) -> Flag:
    # The rule is the SDK's (`InboundPolicy.feature_is_on`); a contract test compares the two.
    enabled, off_at_level = feature["enabled"], feature.get("off_at_level")
    metadata: dict[str, bool | int | str] = {"enabled": enabled, "shed_level": level}
    if off_at_level is not None:
        metadata["off_at_level"] = off_at_level
    if not enabled:
        is_on, reason, decided_by = False, Reason.DISABLED, "enabled"
    elif off_at_level is None:
        is_on, reason, decided_by = True, Reason.STATIC, "enabled"
    else:
        is_on, reason, decided_by = level < off_at_level, Reason.TARGETING_MATCH, "off_at_level"
    metadata["decided_by"] = decided_by
    return _flag(key, is_on, "on" if is_on else "off", reason, source, metadata)


def _shed_level(policy: Policy, source: Source) -> Flag:
    level = shed_level(policy)
    return _flag(SHED_LEVEL, level, f"level-{level}", Reason.STATIC, source)


def _sheds(policy: Policy, source: Source) -> Flag:
    level = shed_level(policy)
    value = {criticality: position < level for position, criticality in enumerate(SHED_ORDER)}
    return _flag(SHEDS, {**value, "critical_plus": False}, f"level-{level}", Reason.STATIC, source)


def _default_criticality(policy: Policy, source: Source) -> Flag:
    criticality = policy["inbound"]["shedding"]["default_criticality"]
    return _flag(DEFAULT_CRITICALITY, criticality, criticality, Reason.STATIC, source)


def _flag(
    key: str,
    value: object,
    variant: str,
    reason: Reason,
    source: Source,
    metadata: Mapping[str, bool | int | str] | None = None,
) -> Flag:
    return {
        "key": key,
        "value": value,
        "reason": reason.value,
        "variant": variant,
        "metadata": {
            **(metadata or {}),
            "sequence": source.sequence,
            "version": source.version,
            "cohort": source.cohort,
        },
    }


_OWN: Mapping[str, Callable[[Policy, Source], Flag]] = {
    SHED_LEVEL: _shed_level,
    SHEDS: _sheds,
    DEFAULT_CRITICALITY: _default_criticality,
}
