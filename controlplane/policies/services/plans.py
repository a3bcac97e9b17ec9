"""Plan what to publish: the policy now and at every later end of an override or canary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.policies.domain.checks import check_policy
from controlplane.policies.domain.resolve import Resolved
from controlplane.policies.selectors.sources import PolicySources, canary_label


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A complete policy, and when it takes over; `reason` is empty for the one in force now."""

    at: datetime
    reason: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CanaryPlan:
    """What the instances of a canary get; `ratio` 0 sends them back to everybody's policy."""

    label: str
    ratio: float
    salt: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is published together: for everybody, and for the instances of an open canary.

    Steps hold now first, then every later one, soonest first. `is_for_canary_alone` leaves
    everybody else with the publication they have, for a change that only adds to a canary.
    """

    version_number: int
    steps: tuple[PlannedStep, ...]
    canary: CanaryPlan | None = None
    is_for_canary_alone: bool = False

    @property
    def policy(self) -> Mapping[str, Any]:
        """The effective policy now, of everybody whom the canary does not reach."""
        return self.steps[0].policy

    @property
    def canary_policy(self) -> Mapping[str, Any]:
        """The effective policy now of the canary's instances; everybody's when there is none."""
        return self.steps[0].policy if self.canary is None else self.canary.steps[0].policy


def plan_policies(sources: PolicySources, now: datetime) -> Plan:
    """Return the plan of one service from what decides its policy.

    A canary that is over but still open is planned with ratio 0: its instances stand on the last
    step of its last publication, and would miss everything published to everybody from now on.
    """
    first = sources.resolve_at(now).policy
    steps = _steps(first, sources.endings_after(now), sources.resolve_at, now)
    canary = sources.canary
    if canary is None:
        return Plan(sources.version_number, steps)
    if not canary.is_in_force(now):
        over = CanaryPlan(canary_label(canary), 0.0, canary.salt, steps)
        return Plan(sources.version_number, steps, over)
    first = sources.resolve_canary_at(now).policy
    endings = sources.canary_endings_after(now)
    candidate = CanaryPlan(
        canary_label(canary),
        canary.ratio,
        canary.salt,
        _steps(first, endings, sources.resolve_canary_at, now),
    )
    return Plan(sources.version_number, steps, candidate)


def check_plan(plan: Plan, *, service_slug: str = "") -> None:
    """Return if no step of a plan contradicts itself, for everybody and for the canary.

    Raises:
        InvalidInput: with every contradiction, and when it would begin.
    """
    problems: dict[str, Problem] = {}
    _collect_problems(plan.steps, "", problems)
    if plan.canary is not None:
        _collect_problems(plan.canary.steps, f"for the instances of {plan.canary.label}", problems)
    if problems:
        found = tuple(problems.values())
        where = f" of {service_slug}" if service_slug else ""
        raise InvalidInput(
            f"the effective policy{where} would contradict itself: "
            + "; ".join(str(problem) for problem in found),
            field=found[0].path,
            problems=found,
        )


def _steps(
    first: Mapping[str, Any],
    endings: Mapping[datetime, Sequence[str]],
    resolve_at: Callable[[datetime], Resolved],
    now: datetime,
) -> tuple[PlannedStep, ...]:
    steps = [PlannedStep(now, "", first)]
    for ends_at, ended in endings.items():
        reason = f"{' and '.join(ended)} {'ends' if len(ended) == 1 else 'end'}"
        steps.append(PlannedStep(ends_at, reason, resolve_at(ends_at).policy))
    return tuple(steps)


def _collect_problems(
    steps: Sequence[PlannedStep], whose: str, problems: dict[str, Problem]
) -> None:
    for step in steps:
        for problem in check_policy(dict(step.policy)):
            notes = [whose] if whose else []
            if step.reason:
                at = step.at.astimezone(UTC)
                notes.append(f"from {at:%Y-%m-%d %H:%M:%S} UTC, when {step.reason}")
            message = f"{problem.message} ({', '.join(notes)})" if notes else problem.message
            # A contradiction that is there now goes on: once is enough.
            problems.setdefault(problem.path + problem.message, Problem(problem.path, message))
