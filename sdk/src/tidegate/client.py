"""The policy of this process: fetched, checked, applied, stored, acknowledged, kept when alone.

What is in force comes from the control plane; without it from the last copy on disk; without
that from `SAFE_DEFAULTS`. A failed poll never lifts a limit, however old the policy grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tidegate.adoption import LOOK_AT_CLOCK_S, Adoption, Handover
from tidegate.clock import Clock, ServerClock, elapsed_s, monotonic_s, wall_s
from tidegate.control_plane import ControlPlane
from tidegate.credentials import Token
from tidegate.disk_copy import DiskCopy, InThread
from tidegate.following import Following, Pace
from tidegate.identity import Identity
from tidegate.in_force import InForce, Subscriber
from tidegate.key_ring import KeyRing, PinnedKey
from tidegate.ladder import AUTO, Ladder, transports_of, wait_to_ask_for_s
from tidegate.metrics import Metrics
from tidegate.policy import Policy
from tidegate.publication import PollAdvice

log = logging.getLogger("tidegate")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a client takes from the world around it; tests replace it."""

    transport: httpx.AsyncBaseTransport | None = None
    wall: Clock = wall_s
    elapsed: Clock = elapsed_s
    monotonic: Clock = monotonic_s
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    uniform: Callable[[], float] = random.SystemRandom().random
    in_thread: InThread = asyncio.to_thread
    switching: AbstractContextManager[object] | None = None


class PolicyClient:
    """Keeps the policy of this process current.

    Args:
        url: the control plane, such as `https://tidegate.example`, without a user name or password.
        token: this service's token (`tgs_...`), or a quick function that returns the present one;
            it is called before every request, so that a rotated token needs no restart. Space
            around it, such as the end of a line, does not count.
        instance_id: names this process, by 1 to 128 of: letters, digits, . _ : -. By default host,
            process ID and a random part, made anew in a forked child.
        state_dir: where the last good policy is kept for the next start; None keeps none.
        wait_s: how long a long-poll is held open for a change, at most the server's 60 s; 0 not.
        transport: "auto" follows by stream, where streams do not get through by long-poll, and
            where nothing is held open by polls at the server's interval; "stream", "long_poll"
            and "poll" allow that one only. A `wait_s` of 0 makes "auto" mean "poll".
        pinned_keys: JWKs or thumbprints of the keys that may sign policies; what does not verify
            is refused. None verifies nothing.
        on_change: called with each new policy; one that raises rejects the policy.

    Raises:
        VerificationUnavailable: keys are pinned, and `cryptography` is not installed.
        ValueError: names the argument, and what would be right.
    """

    def __init__(  # noqa: PLR0913  (keyword-only settings of the one object an application makes)
        self,
        url: str,
        environment: str,
        service: str,
        token: Token,
        *,
        instance_id: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        wait_s: float = 30.0,
        transport: str = AUTO,
        pinned_keys: Iterable[PinnedKey] | None = None,
        on_change: Iterable[Subscriber] = (),
        metrics: Metrics | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        world = surroundings or Surroundings()
        wait_s = wait_to_ask_for_s(wait_s)
        ladder = Ladder(transports_of(transport, wait_s), world.monotonic, world.uniform)
        self._identity = Identity(instance_id)
        self.metrics = Metrics() if metrics is None else metrics
        self._is_verifying = pinned_keys is not None
        self._clock = ServerClock(wall=world.wall, elapsed=world.elapsed)
        self._control_plane = ControlPlane(
            url,
            environment,
            service,
            token=token,
            clock=self._clock,
            transport=world.transport,
            monotonic=world.monotonic,
        )
        self._in_force = InForce(on_change, world.switching)
        disk = None
        if state_dir is not None:
            disk = DiskCopy(Path(state_dir), environment, service, self._identity, world.in_thread)
        self._adoption = Adoption(
            (environment, service),
            self._in_force,
            self._clock,
            identity=self._identity,
            disk=disk,
            ring=None if pinned_keys is None else KeyRing(pinned_keys),
            failures=self.metrics.config_signature_failures.child(),
        )
        self._following = Following(
            self._adoption,
            self._in_force,
            self._control_plane,
            ladder,
            Pace(world.monotonic, world.sleep, world.uniform),
            identity=self._identity,
            wait_s=wait_s,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._pid = os.getpid()  # of the process whose tasks these are
        self.metrics.watch_config(lambda: self.sequence, lambda: self.age_s)
        self.metrics.watch_transport(lambda: self.transport)

    @property
    def instance_id(self) -> str:
        """Names this process."""
        return self._identity.name

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._in_force.policy

    @property
    def sequence(self) -> int | None:
        """The publication in force; None while on `SAFE_DEFAULTS`."""
        return self._in_force.sequence

    @property
    def applied(self) -> str | None:
        """The tag of the policy in force; None while on `SAFE_DEFAULTS`."""
        return self._in_force.etag

    @property
    def etag(self) -> str | None:
        """The tag of the last policy that was both applied and stored."""
        return self._adoption.etag

    @property
    def rejected(self) -> tuple[str, str] | None:
        """The tag of a publication that cannot be applied, and why; None when there is none."""
        rejection = self._adoption.rejection
        return None if rejection is None else (rejection.etag, rejection.reason)

    @property
    def transport(self) -> str:
        """How policies come at present: `stream`, `long_poll` or `poll`."""
        return self._following.transport.value

    @property
    def signature_failures(self) -> int:
        """How many deliveries were refused because no trusted key signed them."""
        return self._adoption.signature_failures

    @property
    def age_s(self) -> float | None:
        """Seconds since the control plane last confirmed the policy; None when it never did."""
        confirmed_at_s = self._adoption.confirmed_at_s
        return None if confirmed_at_s is None else max(0.0, self._clock.now_s() - confirmed_at_s)

    @property
    def is_stale(self) -> bool:
        """Whether nobody confirmed the policy for `max_stale_s`. It stays in force all the same."""
        age_s, publication = self.age_s, self._in_force.publication
        advice = PollAdvice() if publication is None else publication.poll
        return age_s is None or age_s > advice.max_stale_s

    @property
    def skew_s(self) -> float:
        """How far the control plane's clock is ahead of this machine's (negative: behind)."""
        return self._clock.skew_s

    def subscribe(self, callback: Subscriber) -> None:
        """Have `callback` called with each new policy; when it raises, the policy is rejected."""
        self._in_force.subscribe(callback)

    async def start(self, *, first_answer_s: float = 2.0) -> None:
        """Put the copy on disk in force, then follow the control plane in the background.

        Returns after the first answer or failure, at the latest after `first_answer_s`.
        A second call does nothing; one on another event loop goes on there, and there only.
        """
        if self._follows_here():
            return
        self._leave_other_loops()
        if not self._is_verifying:
            log.warning("no keys are pinned: policies are taken without verifying who signed them")
        self.load()
        self._adoption.begin()
        self._following.begin()
        self._pid = os.getpid()
        self._tasks = [
            asyncio.create_task(self._following.run(), name="tidegate-follow"),
            asyncio.create_task(self._follow_clock(), name="tidegate-clock"),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_answer_s):
                await self._following.answered.wait()

    async def stop(self) -> None:
        """Stop following; the policy in force stays in force."""
        here = asyncio.get_running_loop()
        ours = [task for task in self._tasks if task.get_loop() is here]
        self._tasks = [task for task in self._tasks if task not in ours]
        self._leave_other_loops()
        for task in ours:
            task.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        await self._control_plane.close()

    def load(self) -> None:
        """Put in force what the disk copy says for now; nothing when there is no usable copy."""
        self._adoption.load()

    def hand_over(self) -> Handover:
        """What another client needs to go on from where this one is."""
        return self._adoption.hand_over()

    def take_over(self, left: Handover) -> None:
        """Go on from where a client is that nobody runs any more.

        It had the same service, pinned keys and subscribers: what it left was verified by these
        keys and is obeyed by these subscribers, so neither happens again.
        """
        self._adoption.take_over(left)

    def follow_schedule(self) -> float:
        """Apply the step whose time has come; returns the seconds until the next look."""
        return self._adoption.follow_schedule()

    async def poll_once(self) -> float:
        """Ask the control plane once and obey; returns the seconds to wait before the next poll.

        None (0) when the next poll has news for the server, or when this one was held.
        """
        return await self._following.poll_once()

    def _follows_here(self) -> bool:
        """Whether both tasks are at work on the running event loop."""
        here = asyncio.get_running_loop()
        return bool(self._tasks) and not any(
            task.done() or task.get_loop() is not here for task in self._tasks
        )

    def _leave_other_loops(self) -> None:
        """End what is left of following elsewhere: on a loop that is over, or in another thread."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        self._control_plane.forget_connections()
        if self._pid == os.getpid():  # the loops of a parent are the parent's
            for task in tasks:
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    task.get_loop().call_soon_threadsafe(task.cancel)

    async def _follow_clock(self) -> None:
        clock_learned = self._adoption.clock_learned
        while True:
            try:
                pause_s = self._look_at_schedule()
            except Exception:
                log.exception("following the schedule failed in a way that nobody foresaw")
                pause_s = LOOK_AT_CLOCK_S
            clock_learned.clear()
            # Not wait_for: on Python 3.11 it may swallow a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await clock_learned.wait()

    def _look_at_schedule(self) -> float:
        before = self.applied
        pause_s = self.follow_schedule()
        if self.applied != before:
            self._following.notice_news()
        return pause_s
