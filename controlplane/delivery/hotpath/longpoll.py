"""A poll that is held until its answer changes, its time is up, or its client leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol, TypeVar

import structlog

from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer, Refusal, problem_answer
from controlplane.delivery.hotpath.requests import Client

SHORTENED_BY = 0.1
"""Up to this share of a wait is taken off at random.

All those whom one publication woke wait again from the same moment on; without this they would
also come back in the same moment.
"""

Result = TypeVar("Result")

logger = structlog.get_logger(__name__)


class PollRules(Protocol):
    """What a held poll asks of the config API."""

    def final_answer(self, poll: Poll) -> Answer | None:
        """Return the answer that ends the wait; None while there is nothing new."""

    def expired_answer(self, poll: Poll) -> Answer:
        """Return the answer when the time is up."""

    def valid_for_s(self, poll: Poll) -> float:
        """Return for how many seconds the token of a poll is still valid."""

    def leave(self, poll: Poll) -> None:
        """Note that a poll is held no longer."""


class HeldPoll:
    """One waiting poll; a swap, a timer or its client ends it, whichever comes first."""

    __slots__ = ("_client", "_is_over", "_poll", "_rules", "_timer", "instance")

    def __init__(self, rules: PollRules, poll: Poll, client: Client) -> None:
        self._rules = rules
        self._poll = poll
        self._client = client
        self._is_over = False
        self.instance = poll.instance
        wait_s = poll.wait_s * (1.0 - SHORTENED_BY * random.random())  # noqa: S311
        self._timer = asyncio.get_running_loop().call_later(
            min(wait_s, rules.valid_for_s(poll)), self.expire
        )
        self._wait_on()

    def look(self) -> None:
        """Answer if there is something new; otherwise wait on."""
        if self._is_over:
            return
        # It registers *before* it looks, so that no swap can fall in between.
        self._wait_on()
        answer = self._ask(self._rules.final_answer)
        if answer is not None:
            self._end(answer)

    def expire(self) -> None:
        """Answer that nothing has changed: the time is up."""
        if not self._is_over:
            self._end(self._ask(self._rules.expired_answer))

    def cancel(self) -> None:
        """Forget the poll: its client has left."""
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            slot = self._poll.slot
            for lane in (slot.stable, slot.canary):
                if lane is not None:
                    lane.waiters.pop(self, None)
            self._rules.leave(self._poll)

    def _wait_on(self) -> None:
        self._poll.slot.lane(self.instance).waiters[self] = None

    def _ask(self, rule: Callable[[Poll], Result]) -> Result | Answer:
        try:
            return rule(self._poll)
        except Exception:
            # Whoever waits is told of our defect as well, and does not keep its place for it.
            logger.exception("poll.failed", service=f"{self._poll.slot.key}")
            return problem_answer(
                Refusal(500, "internal-error", "this node failed to answer; try again")
            )

    def _end(self, answer: Answer) -> None:
        self.cancel()
        self._client.finish(answer)
