"""What this process enforces: one publication, the step of it that the clock says, who obeys."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from tidegate.errors import PolicyRejected
from tidegate.policy import SAFE_DEFAULTS, Policy
from tidegate.publication import Publication

log = logging.getLogger("tidegate")

Subscriber = Callable[[Policy], None]


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
        self.policy = SAFE_DEFAULTS
        self.publication: Publication | None = None
        self.etag: str | None = None
        self._is_borrowed = False
        self._subscribers = list(subscribers)

    @property
    def sequence(self) -> int | None:
        """The publication in force; None while on `SAFE_DEFAULTS`."""
        return None if self.publication is None else self.publication.sequence

    def subscribe(self, apply: Subscriber) -> None:
        """Have `apply` called with each new policy."""
        self._subscribers.append(apply)

    def is_above(self, publication: Publication) -> bool:
        """Whether what is in force is newer, and was meant for this instance."""
        return (
            self.sequence is not None
            and not self._is_borrowed
            and (publication.sequence < self.sequence)
        )

    def adopt(
        self, publication: Publication, now_unix_s: float, *, is_borrowed: bool = False
    ) -> None:
        """Put a publication in force, at the step that this time (server's clock) is in.

        Args:
            is_borrowed: it was meant for other instances, and any that is for this one replaces
                it, whatever its sequence.

        Raises:
            PolicyRejected: its sequence is lower than ours, or a subscriber cannot obey it.
                Everything is as before.
        """
        if self.is_above(publication):
            reason = f"{publication.sequence} is lower than {self.sequence}, which is in force"
            raise PolicyRejected("sequence", reason)
        self._switch(publication, now_unix_s)
        self.publication = publication
        self._is_borrowed = is_borrowed

    def advance(self, now_unix_s: float) -> None:
        """Switch to the scheduled step whose time has come; usually there is none.

        Raises:
            PolicyRejected: a subscriber cannot obey it; the old one stays.
        """
        if self.publication is not None:
            self._switch(self.publication, now_unix_s)

    def _switch(self, publication: Publication, now_unix_s: float) -> None:
        step = publication.step_at(now_unix_s)
        if step.etag == self.etag:
            return
        with self._switching:
            self._tell(step.policy)
            self.policy = step.policy
            self.etag = step.etag
        why = f" ({step.reason})" if step.reason else ""
        log.info("policy %s in force, sequence %d%s", step.etag, publication.sequence, why)

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
