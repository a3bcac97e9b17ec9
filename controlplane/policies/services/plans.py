"""Plan what to publish: the effective policy now and at every later end of an override."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.selectors.sources import PolicySources, override_label


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A complete policy, and when it takes over; `reason` is empty for the one in force now."""

    at: datetime
    reason: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a publication will hold: now first, then every later step, soonest first."""

    version_number: int
    steps: tuple[PlannedStep, ...]

    @property
    def policy(self) -> Mapping[str, Any]:
        """The effective policy now."""
        return self.steps[0].policy


def plan_policies(sources: PolicySources, now: datetime) -> Plan:
    """Return the plan of one service from what decides its policy."""
    steps = [PlannedStep(now, "", sources.resolve_at(now).policy)]
    for ends_at in sources.ends_after(now):
        ended = [override_label(each) for each in sources.overrides if each.ends_at == ends_at]
        reason = f"{' and '.join(ended)} {'ends' if len(ended) == 1 else 'end'}"
        steps.append(PlannedStep(ends_at, reason, sources.resolve_at(ends_at).policy))
    return Plan(sources.version_number, tuple(steps))


def check_plan(plan: Plan, *, service_slug: str = "") -> None:
    """Return if no step of a plan contradicts itself.

    Raises:
        InvalidInput: with every contradiction, and when it would begin.
    """
    problems: dict[str, Problem] = {}
    for step in plan.steps:
        for problem in check_policy(dict(step.policy)):
            message = problem.message
            if step.reason:
                at = step.at.astimezone(UTC)
                message = f"{message} (from {at:%Y-%m-%d %H:%M:%S} UTC, when {step.reason})"
            # A contradiction that is there now goes on: once is enough.
            problems.setdefault(problem.path + problem.message, Problem(problem.path, message))
    if problems:
        found = tuple(problems.values())
        where = f" of {service_slug}" if service_slug else ""
        raise InvalidInput(
            f"the effective policy{where} would contradict itself: "
            + "; ".join(str(problem) for problem in found),
            field=found[0].path,
            problems=found,
        )
