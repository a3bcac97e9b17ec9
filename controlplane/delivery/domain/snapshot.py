"""What delivery holds of one publication: bytes that are ready to send."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

FLEET_DEFAULT = ""
"""The service name of an environment's fleet-default publication."""

STABLE, CANARY = "", "canary"
"""The cohorts of a publication: everybody, or the first part of the instances."""


@dataclass(frozen=True, slots=True)
class ScheduledPolicy:
    """A later effective policy of a publication, and when it takes over by the clock."""

    at: datetime
    reason: str
    etag: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """One publication as the database holds it, before it becomes bytes.

    `etag` names step 0, the policy in force at `issued_at`; `scheduled` is soonest first. A
    publication to the canary cohort reaches the instances whose position under `salt` is below
    `ratio`; one with ratio 0 ends the canary.
    """

    environment: str
    service: str
    version: int
    sequence: int
    etag: str
    issued_at: datetime
    policy: Mapping[str, Any]
    scheduled: tuple[ScheduledPolicy, ...] = ()
    cohort: str = STABLE
    ratio: float = 0.0
    salt: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The answer to a poll from `at_unix` (seconds) until the next step takes over."""

    at_unix: float
    etag: str
    body: bytes

    @property
    def tag(self) -> bytes:
        """The entity tag as it stands on the wire, with its quotes."""
        return b'"' + self.etag.encode("ascii") + b'"'


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything the hot path needs to answer for one service: steps in order of time."""

    environment: str
    service: str
    version: int
    sequence: int
    steps: tuple[Step, ...]
    cohort: str = STABLE
    ratio: float = 0.0
    salt: str = ""

    def for_service(self, service: str) -> Snapshot:
        """This fleet-default snapshot, as an unregistered `service` receives it.

        Only the name in the bodies differs; etags and sequence stay those of the publication.
        """
        before = b'"service":"' + self.service.encode() + b'"'
        after = b'"service":"' + service.encode() + b'"'
        return replace(
            self,
            service=service,
            # The envelope comes first in a body, so the first match is never inside a policy.
            steps=tuple(
                replace(step, body=step.body.replace(before, after, 1)) for step in self.steps
            ),
        )
