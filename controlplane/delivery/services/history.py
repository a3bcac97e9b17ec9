"""Noticing that the database went back in time: a replica that lags, or a backup restored."""

from __future__ import annotations

import structlog

from controlplane.delivery.services.instruments import SEQUENCE_LEAD
from controlplane.delivery.services.loading import Position
from controlplane.delivery.services.snapshot_file import Key

SAY_AGAIN_S = 60.0
NAMED_AT_MOST = 10

logger = structlog.get_logger(__name__)


class History:
    """Compares what the database holds with what was served and with what instances hold.

    A database whose newest sequence is lower hands out numbers that instances refuse, because
    they hold higher ones: changes are accepted and reach nobody. A lagging replica catches up by
    itself; after a restored backup an operator has to move the sequence past what is out there.
    """

    def __init__(self) -> None:
        self._said_at_unix = 0.0
        self._highest = 0

    def compare(self, *, newest: int, served: int, claimed: int, now_unix: float) -> None:
        """Say so, once a minute, when the database holds less than is out there.

        Args:
            newest: the highest sequence that the database holds.
            served: the highest that this process serves.
            claimed: the highest that an instance presented *before* the database was read.
        """
        highest = max(served, claimed)
        SEQUENCE_LEAD.set(max(0, highest - newest))
        if highest <= newest:
            if self._highest:
                logger.info("sequence.caught_up", database=newest)
            self._highest, self._said_at_unix = 0, 0.0
            return
        self._highest = highest
        if now_unix - self._said_at_unix >= SAY_AGAIN_S:
            self._said_at_unix = now_unix
            logger.error(
                "sequence.behind",
                database=newest,
                served=served,
                claimed_by_instances=claimed,
                what="instances refuse what this database publishes: a replica that lags catches "
                "up by itself; after a backup was restored, raise the sequence",
                command=f"manage.py raise_sequence --above {highest}",
            )

    def say_other(self, lower: list[tuple[Key, Position]]) -> None:
        """Say that the database has gone on in another direction than what was served.

        Args:
            lower: the services of which something newer was served, and what that was.
        """
        logger.error(
            "history.differs",
            services=[
                f"{environment}/{service or '*'} #{position.sequence}"
                for (environment, service, _), position in lower[:NAMED_AT_MOST]
            ],
            count=len(lower),
            what="these keep what was served, which the database does not hold any more; publish "
            "them again with manage.py raise_sequence",
        )
