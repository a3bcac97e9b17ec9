"""One change after it was made: how far it has spread over the instances."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.access.domain.actors import Actor
from controlplane.delivery.domain.convergence import Convergence
from controlplane.delivery.selectors import convergence
from controlplane.kernel.errors import NotFound
from controlplane.policies.selectors import (
    Change,
    current_version,
    list_changes,
    list_overrides_in_force,
)
from controlplane.policies.selectors.publications import list_publications_by_sequence
from controlplane.registry.selectors import get_service
from dashboards.presenters.change_words import WORDS, change_words
from dashboards.presenters.values import ChangedField, changed_fields

FOLLOWED_FOR = timedelta(minutes=2)  # then a silent instance is news for the Instances region
SLOWLY_AFTER = timedelta(seconds=10)
SEARCHED_CHANGES = 200


@dataclass(frozen=True, slots=True)
class Spread:
    """The region that follows one publication until it has landed."""

    sequence: int
    found: Convergence
    width: float
    rejected_width: float
    is_final: bool
    every: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One change: what it was, how far it is, and how to take it back."""

    sequence: int
    service: str
    words: str
    actor: str
    reason: str
    at: datetime
    fields: tuple[ChangedField, ...]
    override_id: int | None
    canary_id: int | None
    ends_at: datetime | None
    left_s: float | None
    rollback_to: int | None
    may_undo: bool
    spread: Spread | None


def present_change(*, environment: str, sequence: int, actor: Actor, now: datetime) -> ChangePage:
    """Build the page of one publication.

    Raises:
        NotFound: the environment has no publication of that sequence.
    """
    publication = next(
        (p for p in list_publications_by_sequence([sequence]) if p.environment == environment), None
    )
    if publication is None:
        raise NotFound(f"{environment} has no publication {sequence}")
    slug = publication.service_slug
    change = _change_of(environment, slug, sequence, publication.issued_at, now)
    in_force = {row.id: row for row in list_overrides_in_force(environment, slug or None, now=now)}
    override = in_force.get(change.override_id) if change and change.override_id else None
    team = get_service(environment, slug).team.slug if slug else None
    return ChangePage(
        sequence=sequence,
        service=slug,
        words=change_words(change) if change else WORDS.get(publication.cause, publication.cause),
        actor=publication.actor,
        reason=publication.reason,
        at=publication.issued_at,
        fields=changed_fields(change.changes) if change else (),
        override_id=None if override is None else override.id,
        canary_id=change.canary_id if change and change.undo == "end" else None,
        ends_at=None if override is None else override.ends_at,
        left_s=None if override is None else (override.ends_at - now).total_seconds(),
        rollback_to=_rollback_to(environment, slug, change),
        may_undo=actor.may("override.revert", team),
        spread=present_spread(environment=environment, sequence=sequence, now=now)
        if slug
        else None,
    )


def present_spread(*, environment: str, sequence: int, now: datetime) -> Spread:
    """Measure how far one publication of a service has spread.

    Raises:
        NotFound: the environment has no publication of that sequence.
    """
    publication = next(iter(list_publications_by_sequence([sequence])), None)
    if publication is None or publication.environment != environment:
        raise NotFound(f"{environment} has no publication {sequence}")
    found = convergence(environment, publication.service_slug, sequence, now=now)
    age = now - found.published_at
    answered = found.applied + len(found.rejected)
    is_final = (found.live > 0 and answered >= found.live) or age > FOLLOWED_FOR
    return Spread(
        sequence=sequence,
        found=found,
        width=_percent(found.applied, found.live),
        rejected_width=_percent(len(found.rejected), found.live),
        is_final=is_final,
        every="300ms" if age < SLOWLY_AFTER else "2s",
        sentence=_sentence(found),
    )


def _sentence(found: Convergence) -> str:
    if not found.live:
        return "No live instance: it takes effect when one starts and asks for its policy."
    noun = "instance" if found.live == 1 else "instances"
    verb = "enforces" if found.applied == 1 else "enforce"
    return f"{found.applied} of {found.live} {noun} {verb} it"


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def _change_of(
    environment: str, slug: str, sequence: int, issued_at: datetime, now: datetime
) -> Change | None:
    found = list_changes(
        environment, service=slug or None, since=issued_at, limit=SEARCHED_CHANGES, now=now
    )
    return next((change for change in found if change.sequence == sequence), None)


def _rollback_to(environment: str, slug: str, change: Change | None) -> int | None:
    if change is None or change.undo != "rollback" or not slug:
        return None
    version = current_version(get_service(environment, slug))
    return version.number - 1 if version is not None and version.number > 1 else None
