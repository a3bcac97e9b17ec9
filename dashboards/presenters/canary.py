"""The canary of one service: what it tries, on which instances, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from controlplane.access.domain.actors import Actor
from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.selectors import InstanceRow, list_instances
from controlplane.policies.domain.diff import diff_effective
from controlplane.policies.selectors import CanaryRow, list_canaries_in_force
from controlplane.registry.selectors import get_service
from dashboards.presenters.instances import Instance, instance_of
from dashboards.presenters.values import ChangedField, changed_fields

STEPS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
NAMED_AT_MOST = 8


@dataclass(frozen=True, slots=True)
class WiderChoice:
    """A larger part of the instances, and how many live ones it would reach."""

    percent: str
    reached: int


@dataclass(frozen=True, slots=True)
class CanaryShown:
    """One canary in force.

    `members` are the live instances in it; `level` says how it goes: ok, warn, crit or quiet.
    """

    canary_id: int
    service: str
    ratio: float
    reason: str
    author: str
    started_at: datetime
    ends_at: datetime
    left_s: float
    fields: tuple[ChangedField, ...]
    members: tuple[Instance, ...]
    live: int
    level: str
    sentence: str
    wider: tuple[WiderChoice, ...]
    may_widen: bool
    may_promote: bool
    may_end: bool

    @property
    def shape(self) -> str:
        """The glyph before the sentence."""
        return {"ok": "✓", "warn": "!", "crit": "▲", "quiet": "◌"}[self.level]

    @property
    def named(self) -> tuple[Instance, ...]:
        """The members that are named where there is little room."""
        return self.members[:NAMED_AT_MOST]

    @property
    def unnamed_count(self) -> int:
        """How many members are not named there."""
        return len(self.members) - len(self.named)


@dataclass(frozen=True, slots=True)
class CanaryPanel:
    """The canary of one service; `canary` is None when every instance gets the same."""

    service_slug: str
    canary: CanaryShown | None
    may_start: bool


def present_canary(
    *, environment: str, service_slug: str, actor: Actor, now: datetime
) -> CanaryPanel:
    """Build what the Service page and the page of a canary show.

    Raises:
        NotFound: no such service.
    """
    service = get_service(environment, service_slug)
    found = list_canaries_in_force(environment, service_slug, now=now)
    instances = list_instances(environment, service_slug, now=now) if found else []
    shown = [_shown(row, instances, service.team.slug, actor, now) for row in found]
    return CanaryPanel(
        service_slug=service.slug,
        canary=shown[0] if shown else None,
        may_start=actor.may("canary.start", service.team.slug),
    )


def present_canaries(
    *, environment: str, service: str, teams: dict[str, str], actor: Actor, now: datetime
) -> tuple[CanaryShown, ...]:
    """List every canary in force, soonest end first; of one service when that is not empty."""
    found = list_canaries_in_force(environment, service or None, now=now)
    instances = list_instances(environment, service or None, now=now) if found else []
    shown = (_shown(row, instances, teams.get(row.service), actor, now) for row in found)
    return tuple(sorted(shown, key=lambda each: each.left_s))


def _shown(
    row: CanaryRow,
    instances: Sequence[InstanceRow],
    team: str | None,
    actor: Actor,
    now: datetime,
) -> CanaryShown:
    live = [each for each in instances if each.is_live and each.service == row.service]
    positions = {each.instance_id: position(row.salt, each.instance_id) for each in live}
    members = [each for each in live if positions[each.instance_id] < row.ratio]
    level, sentence = _judge(members, len(live))
    return CanaryShown(
        canary_id=row.id,
        service=row.service,
        ratio=row.ratio,
        reason=row.reason,
        author=row.author,
        started_at=row.started_at,
        ends_at=row.ends_at,
        left_s=(row.ends_at - now).total_seconds(),
        fields=changed_fields(diff_effective(row.policy, row.canary_policy)),
        members=tuple(instance_of(each, now) for each in members),
        live=len(live),
        level=level,
        sentence=sentence,
        wider=tuple(
            WiderChoice(f"{100 * step:g}", sum(at < step for at in positions.values()))
            for step in STEPS
            if step > row.ratio
        ),
        may_widen=actor.may("canary.widen", team),
        may_promote=actor.may("canary.promote", team),
        may_end=actor.may("canary.end", team),
    )


def _judge(members: Sequence[InstanceRow], live: int) -> tuple[str, str]:
    """How the canary goes, in one sentence."""
    if not live:
        return "quiet", "No live instance asks for a policy: nobody tries it."
    of_all = f"{len(members)} of {live} live instance{'' if live == 1 else 's'}"
    if not members:
        return "warn", f"It reaches {of_all}: nobody tries it until it is widened."
    verb = "is" if len(members) == 1 else "are"
    rejected = sum(each.state == "rejected" for each in members)
    if rejected:
        return "crit", f"{of_all} {verb} in it, and {rejected} rejected it."
    current = sum(each.is_current for each in members)
    if current == len(members):
        return "ok", f"{of_all} {verb} in it, and all of them enforce it."
    return "warn", f"{of_all} {verb} in it, and {current} enforce{'s' if current == 1 else ''} it."
