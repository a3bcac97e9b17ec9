"""How publications spread: recent ones side by side, and one with every instance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from controlplane.delivery.domain.convergence import (
    FOLLOWED_FOR,
    Convergence,
    Phase,
    measure_convergence,
)
from controlplane.delivery.domain.progress import InstanceProgress, follow_instances
from controlplane.delivery.domain.served import Lineup
from controlplane.delivery.selectors.instances import measure_many
from controlplane.delivery.selectors.rows import (
    answers_to,
    known_instances,
    read_lineups,
    served,
)
from controlplane.kernel.errors import NotFound
from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import (
    list_publications,
    list_publications_by_sequence,
)

SETTLED_FOR = timedelta(seconds=15)
MAX_SETTLED = 48


@dataclass(frozen=True, slots=True)
class PublicationRow:
    """One publication and how far it has spread. `superseded_by` is the next of its cohort, if any.

    `service` is empty for the fleet default.
    """

    sequence: int
    service: str
    cohort: str
    version_number: int
    cause: str
    actor: str
    reason: str
    issued_at: datetime
    superseded_by: int | None
    phase: Phase
    convergence: Convergence


@dataclass(frozen=True, slots=True)
class PublicationSpread:
    """One publication with every instance that answered it, or should have."""

    row: PublicationRow
    instances: tuple[InstanceProgress, ...]


class SettledSpread:
    """Remembers for a while how far publications had spread that have settled; thread-safe."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[tuple[str, int], tuple[datetime, Convergence]] = {}

    def recall(
        self, environment: str, publications: Iterable[Publication], now: datetime
    ) -> dict[int, Convergence]:
        """Return what is remembered and not too old, by sequence."""
        with self._lock:
            found = {
                each.sequence: self._kept.get((environment, each.sequence)) for each in publications
            }
        return {
            sequence: kept[1]
            for sequence, kept in found.items()
            if kept is not None and abs(now - kept[0]) < SETTLED_FOR
        }

    def keep(self, environment: str, spread: Mapping[int, Convergence], now: datetime) -> None:
        """Remember what has settled; what was measured longest ago makes room."""
        with self._lock:
            for sequence, found in spread.items():
                if now - found.published_at > FOLLOWED_FOR:
                    self._kept.pop((environment, sequence), None)
                    self._kept[environment, sequence] = (now, found)
            while len(self._kept) > MAX_SETTLED:
                del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        """Measure everything anew."""
        with self._lock:
            self._kept.clear()


SETTLED = SettledSpread()


def list_recent_publications(
    environment: str,
    *,
    service: str | None = None,
    before_sequence: int | None = None,
    limit: int,
    now: datetime,
) -> Sequence[PublicationRow]:
    """Return publications of services, newest first; at most four queries, however many.

    What has settled, two minutes after it was published, is measured every 15 s at most by one
    process: it changes little, and may be ten thousand answers each.

    The publication of a fleet default itself is left out: each service it changed has one of its
    own, and instances answer those.
    """
    publications = list_publications(
        environment, service=service, before_sequence=before_sequence, limit=limit
    )
    lineups = read_lineups(environment)
    spread = SETTLED.recall(environment, publications, now)
    moving = [each for each in publications if each.sequence not in spread]
    if moving:
        fresh = measure_many(environment, moving, lineups, now=now)
        SETTLED.keep(environment, fresh, now)
        spread |= fresh
    return [
        _row(publication, lineups.of(publication.service_slug), spread[publication.sequence], now)
        for publication in publications
    ]


def follow_publication(environment: str, sequence: int, *, now: datetime) -> PublicationSpread:
    """Return one publication of a service with all its instances, the troubled first; four queries.

    Raises:
        NotFound: the environment has no publication of a service with that sequence.
    """
    publication = next(iter(list_publications_by_sequence([sequence])), None)
    if publication is None or publication.environment != environment:
        raise NotFound(f"{environment} has no publication {sequence}", field="sequence")
    if not publication.service_slug:
        raise NotFound(
            f"publication {sequence} is the fleet default of {environment}; each service it "
            "changed has a publication of its own, with the sequences after it",
            field="sequence",
        )
    service = publication.service_slug
    lineup, published = read_lineups(environment).of(service), served(publication)
    answers = answers_to(environment, [sequence], service)[sequence]
    known = [
        each
        for each in known_instances(environment, [service])[service]
        if lineup.is_for(published, each.instance_id)
    ]
    found = measure_convergence(
        sequence=sequence,
        published_at=publication.issued_at,
        known=known,
        answers=answers,
        now=now,
    )
    instances = follow_instances(
        sequence=sequence,
        published_at=publication.issued_at,
        known=known,
        answers=answers,
        now=now,
    )
    return PublicationSpread(row=_row(publication, lineup, found, now), instances=tuple(instances))


def _row(
    publication: Publication, lineup: Lineup, found: Convergence, now: datetime
) -> PublicationRow:
    published = served(publication)
    newest = lineup.canary if published.is_canary else lineup.stable
    is_newest = newest is None or newest.sequence <= published.sequence
    return PublicationRow(
        sequence=publication.sequence,
        service=publication.service_slug,
        cohort=published.cohort,
        version_number=publication.version_number,
        cause=publication.cause,
        actor=publication.actor,
        reason=publication.reason,
        issued_at=publication.issued_at,
        superseded_by=None if is_newest or newest is None else newest.sequence,
        phase=found.phase(now),
        convergence=found,
    )
