"""Noticing that the database went back in time: a replica that lags, or a backup restored."""

from __future__ import annotations

import structlog

from controlplane.delivery.services.instruments import SEQUENCE_LEAD
from controlplane.delivery.services.loading import Position
from controlplane.delivery.services.snapshot_file import LaneKey

SAY_AGAIN_S = 60.0
NAMED_AT_MOST = 10
CLAIM_KEPT_S = 120.0

Claim = tuple[int, tuple[str, str]]
"""A sequence that an instance presented, and the environment and service it is of."""

NO_CLAIM: Claim = (0, ("", ""))

logger = structlog.get_logger(__name__)


class History:
    """Compares what the database holds with what was served and with what instances hold.

    A database whose newest sequence is lower hands out numbers that instances refuse, because
    they hold higher ones: changes are accepted and reach nobody. A lagging replica catches up by
    itself; after a restored backup an operator has to move the sequence past what is out there.
    """

    def __init__(self) -> None:
        self._said_at_unix = 0.0
        self._is_behind = False
        self._claim = NO_CLAIM
        self._claimed_at_unix = 0.0

    def compare(self, *, newest: int, served: int, claim: Claim | None, now_unix: float) -> None:
        """Say so, once a minute, when the database holds less than is out there.

        Args:
            newest: the highest sequence that the database holds.
            served: the highest that this process serves.
            claim: the highest that an instance presented *before* the database was read, so that
                it cannot be of a publication made since.
        """
        self._keep(claim, now_unix)
        highest = max(served, self._claim[0])
        SEQUENCE_LEAD.set(max(0, highest - newest))
        if highest <= newest:
            if self._is_behind:
                logger.info("sequence.caught_up", database=newest)
            self._is_behind, self._said_at_unix = False, 0.0
            return
        self._is_behind = True
        if now_unix - self._said_at_unix >= SAY_AGAIN_S:
            self._said_at_unix = now_unix
            claimed, (environment, service) = self._claim
            logger.error(
                "sequence.behind",
                database=newest,
                served=served,
                claimed=claimed or None,
                claimed_by=f"{environment}/{service}" if claimed else None,
                what="instances refuse what this database publishes: a replica that lags catches "
                "up by itself; after a backup was restored, raise the sequence",
                command=f"manage.py raise_sequence --above {highest}",
            )

    def _keep(self, claim: Claim | None, now_unix: float) -> None:
        # Instances present what they hold with each poll, and may be silent for as long as one is
        # held; what none of them presents any more is forgotten, for it may have been a lie.
        if claim is not None and claim[0] >= self._claim[0]:
            self._claim, self._claimed_at_unix = claim, now_unix
        elif now_unix - self._claimed_at_unix > CLAIM_KEPT_S:
            self._claim = claim or NO_CLAIM

    def say_other(self, lower: list[tuple[LaneKey, Position]]) -> None:
        """Say that the database has gone on in another direction than what was served.

        Args:
            lower: the services of which something newer was served, and what that was.
        """
        highest = max(position.sequence for _, position in lower)
        names = sorted({f"{key[0]}/{key[1]}" for key, _ in lower if key[1]})[:NAMED_AT_MOST]
        logger.error(
            "history.differs",
            services=[
                f"{environment}/{service or '*'} #{position.sequence}"
                for (environment, service, _), position in lower[:NAMED_AT_MOST]
            ],
            count=len(lower),
            what="these keep what was served, which the database does not hold any more, until "
            "they are published again: by their names, for it may not know them; it gives those "
            "that it does not know the fleet default",
            command=" ".join(
                (f"manage.py raise_sequence --above {highest}", *(f"--service {n}" for n in names))
            ),
        )
