"""What this process enforces: one publication, the step of it that the clock says, who obeys."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from tidegate.errors import PolicyRejected
from tidegate.policy import SAFE_DEFAULTS, Policy
from tidegate.publication import Delivery, Publication, Step

log = logging.getLogger("tidegate")

Subscriber = Callable[[Policy], None]


@dataclass(frozen=True, slots=True)
class Enforced:
    """What is in force at one moment, and what it came as.

    It is replaced whole, by one reference: whoever looks from another thread, or is forked in
    the middle of a change, never sees the policy of one publication with the tag of another.
    """

    policy: Policy = SAFE_DEFAULTS
    etag: str | None = None
    publication: Publication | None = None
    delivery: Delivery | None = None
    is_borrowed: bool = False  # it was meant for other instances


class InForce:
    """Switches policies whole: every subscriber obeys the new one, or all keep the old.

    Args:
        switching: held while it switches, for those who must not meet it half way.
    """

    def __init__(
        self,
        subscribers: Iterable[Subscriber] = (),
        switching: AbstractContextManager[object] | None = None,
    ) -> None:
        self._switching = contextlib.nullcontext() if switching is None else switching
        self._subscribers = list(subscribers)
        self.now = Enforced()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.now.policy

    @property
    def etag(self) -> str | None:
        """The tag of the policy in force; None while on `SAFE_DEFAULTS`."""
        return self.now.etag

    @property
    def publication(self) -> Publication | None:
        """The publication in force; None while on `SAFE_DEFAULTS`."""
        return self.now.publication

    @property
    def sequence(self) -> int | None:
        """The sequence of the publication in force; None while on `SAFE_DEFAULTS`."""
        publication = self.now.publication
        return None if publication is None else publication.sequence

    def subscribe(self, apply: Subscriber) -> None:
        """Have `apply` called with each new policy."""
        self._subscribers.append(apply)

    def is_above(self, publication: Publication) -> bool:
        """Whether what is in force is newer, and was meant for this instance."""
        return (
            self.sequence is not None
            and not self.now.is_borrowed
            and (publication.sequence < self.sequence)
        )

    def adopt(
        self,
        publication: Publication,
        delivery: Delivery,
        now_unix_s: float,
        *,
        is_borrowed: bool = False,
    ) -> None:
        """Put a publication in force, at the step that this time (server's clock) is in.

        Args:
            delivery: what it came as.
            is_borrowed: it was meant for other instances, and any that is for this one replaces
                it, whatever its sequence.

        Raises:
            PolicyRejected: its sequence is lower than ours, or a subscriber cannot obey it.
                Everything is as before.
        """
        if self.is_above(publication):
            reason = f"{publication.sequence} is lower than {self.sequence}, which is in force"
            raise PolicyRejected("sequence", reason)
        step = publication.step_at(now_unix_s)
        self._switch(Enforced(step.policy, step.etag, publication, delivery, is_borrowed), step)

    def advance(self, now_unix_s: float) -> None:
        """Switch to the scheduled step whose time has come; usually there is none.

        Raises:
            PolicyRejected: a subscriber cannot obey it; the old one stays.
        """
        now = self.now
        if now.publication is None:
            return
        step = now.publication.step_at(now_unix_s)
        if step.etag != now.etag:
            self._switch(replace(now, policy=step.policy, etag=step.etag), step)

    def take_over(self, enforced: Enforced) -> None:
        """Go on with what the same subscribers were told already, and obey."""
        self.now = enforced

    def _switch(self, wanted: Enforced, step: Step) -> None:
        with self._switching:
            if step.etag == self.etag:
                self.now = replace(wanted, policy=self.policy)  # which the subscribers obey
                return
            self._tell(step.policy)
            self.now = wanted
        why = f" ({step.reason})" if step.reason else ""
        log.info("policy %s in force, sequence %s%s", step.etag, self.sequence, why)

    def _tell(self, policy: Policy) -> None:
        for index, apply in enumerate(self._subscribers):
            try:
                apply(policy)
            except Exception as problem:
                for earlier in self._subscribers[: index + 1]:
                    with contextlib.suppress(Exception):
                        earlier(self.policy)
                name = getattr(apply, "__qualname__", type(apply).__name__)
                raise PolicyRejected("", f"{name} could not apply it: {problem!r}") from problem
