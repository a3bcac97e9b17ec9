"""What a fleet-wide table needs of every policy, without resolving any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.policies.selectors.sources import PolicySources, read_fleet_sources
from controlplane.registry.models import Environment

_SHED_LEVEL = ("inbound", "shedding", "level")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """One service's policy in short. `version_number` is 0 when only the fleet default applies."""

    version_number: int
    fleet_default_number: int
    shed_level: int


def list_policy_summaries(environment: Environment, now: datetime) -> dict[str, PolicySummary]:
    """Return the policy of every registered service in short, by name; four queries.

    Resolving a thousand complete policies for one table would cost seconds; following one path
    through the layers costs microseconds.
    """
    return {
        slug: _summary(sources, now)
        for slug, sources in read_fleet_sources(environment, now=now).items()
    }


def _summary(sources: PolicySources, now: datetime) -> PolicySummary:
    level: object = 0
    for layer in sources.layers_at(now):
        said = _said(layer.document)
        if said is not _ABSENT:
            level = said if isinstance(said, int) else 0  # null deletes: built in is 0
    return PolicySummary(
        version_number=sources.version_number,
        fleet_default_number=sources.fleet_default.number if sources.fleet_default else 0,
        shed_level=level if isinstance(level, int) else 0,
    )


def _said(document: Mapping[str, Any]) -> object:
    """What a layer says about the shed level; None when it deletes it or what holds it."""
    value: object = document
    for part in _SHED_LEVEL:
        if value is None or not isinstance(value, Mapping):
            return None
        if part not in value:
            return _ABSENT
        value = value[part]
    return value
