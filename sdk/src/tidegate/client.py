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
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tidegate.clock import MAX_SILENT_SKEW_S, Clock, ServerClock, elapsed_s, monotonic_s, wall_s
from tidegate.control_plane import Answer, ControlPlane, Said, Unavailable
from tidegate.errors import PolicyRejected
from tidegate.in_force import InForce, Subscriber
from tidegate.metrics import Metrics
from tidegate.policy import Policy
from tidegate.publication import PollAdvice, Publication, parse_body, parse_publication
from tidegate.store import PolicyStore, StoredPublication

log = logging.getLogger("tidegate")

_FIRST_BACKOFF_S = 0.5
_LONGEST_RETRY_AFTER_S = 300.0  # a server's mistake must not strand its clients
_UNCHANGED_S = 2.0  # spread of the next poll after a full answer that changed nothing
_LOOK_AT_CLOCK_S = 5.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a client takes from the world around it; tests replace it."""

    transport: httpx.AsyncBaseTransport | None = None
    wall: Clock = wall_s
    elapsed: Clock = elapsed_s
    monotonic: Clock = monotonic_s
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    uniform: Callable[[], float] = random.SystemRandom().random


class PolicyClient:
    """Keeps the policy of this process current.

    Args:
        url: the control plane, such as `https://tidegate.example`.
        token: this service's token (`tgs_...`).
        instance_id: names this process; by default host, process id and a random part.
        state_dir: where the last good policy is kept for the next start; None keeps none.
        wait_s: how long a poll is held open for a change; 0 polls at the server's interval.
        on_change: called with each new policy; one that raises rejects the policy.
    """

    def __init__(  # noqa: PLR0913  (keyword-only settings of the one object an application makes)
        self,
        url: str,
        environment: str,
        service: str,
        token: str,
        *,
        instance_id: str | None = None,
        state_dir: str | os.PathLike[str] | None = None,
        wait_s: float = 30.0,
        on_change: Iterable[Subscriber] = (),
        metrics: Metrics | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._world = surroundings or Surroundings()
        self._wait_s = wait_s
        self._address = (environment, service)
        self._store = (
            None if state_dir is None else PolicyStore(Path(state_dir), environment, service)
        )
        self._clock = ServerClock(wall=self._world.wall, elapsed=self._world.elapsed)
        self._control_plane = ControlPlane(
            url,
            environment,
            service,
            token=token,
            clock=self._clock,
            transport=self._world.transport,
            monotonic=self._world.monotonic,
        )
        self.instance_id = instance_id or _make_instance_id()
        self.metrics = Metrics() if metrics is None else metrics
        self._in_force = InForce(on_change)
        self._etag: str | None = None
        self._rejected: tuple[str, str] | None = None
        self._confirmed_at_s: float | None = None
        self._failures = 0
        self._is_connected = False
        self._is_skewed = False
        self._answered = asyncio.Event()
        self._clock_learned = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.metrics.watch_config(lambda: self.sequence, lambda: self.age_s)

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
        return self._etag

    @property
    def rejected(self) -> tuple[str, str] | None:
        """The tag of a publication that cannot be applied, and why; None when there is none."""
        return self._rejected

    @property
    def age_s(self) -> float | None:
        """Seconds since the control plane last confirmed the policy; None when it never did."""
        if self._confirmed_at_s is None:
            return None
        return max(0.0, self._clock.now_s() - self._confirmed_at_s)

    @property
    def is_stale(self) -> bool:
        """Whether nobody confirmed the policy for `max_stale_s`. It stays in force all the same."""
        age_s = self.age_s
        return age_s is None or age_s > self._advice.max_stale_s

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
        A second call does nothing.
        """
        if self._tasks:
            return
        self.load()
        self._tasks = [
            asyncio.create_task(self._follow_control_plane(), name="tidegate-poll"),
            asyncio.create_task(self._follow_clock(), name="tidegate-clock"),
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(first_answer_s):
                await self._answered.wait()

    async def stop(self) -> None:
        """Stop following; the policy in force stays in force."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._control_plane.close()

    def load(self) -> None:
        """Put in force what the disk copy says for now; nothing when there is no usable copy."""
        stored = None if self._store is None else self._store.load()
        if self._store is None or stored is None:
            return
        self._clock.remember_skew(stored.skew_s)
        try:
            self._adopt(parse_publication(stored.document, stored.etag))
        except PolicyRejected as problem:
            log.warning("the policy stored in %s is not usable: %s", self._store.path, problem)
            return
        self._confirmed_at_s = stored.saved_at_unix_s
        self._etag = self.applied

    def follow_schedule(self) -> float:
        """Apply the step whose time has come; returns the seconds until the next look."""
        now_s = self._clock.now_s()
        publication = self._in_force.publication
        if publication is None:
            return _LOOK_AT_CLOCK_S
        was_stored = self._etag == self.applied
        try:
            self._in_force.advance(now_s)
        except PolicyRejected as problem:
            self._reject(publication.step_at(now_s).etag, problem)
            return _LOOK_AT_CLOCK_S
        if was_stored:
            # The disk copy holds the whole publication, so this step is stored already.
            self._etag = self.applied
        change_s = publication.next_change_s(now_s)
        return _LOOK_AT_CLOCK_S if change_s is None else min(change_s - now_s, _LOOK_AT_CLOCK_S)

    async def poll_once(self) -> float:
        """Ask the control plane once and obey; returns the seconds to wait before the next poll.

        None (0) when the next poll has news for the server, or when this one was held.
        """
        said = self._say()
        wait_s = self._wait_s if self._is_connected else 0.0
        try:
            answer = await self._control_plane.poll(self.instance_id, said, wait_s)
        except Unavailable as problem:
            return self._stand_alone(problem)
        was_connected, self._is_connected, self._failures = self._is_connected, True, 0
        self._notice_skew()
        if answer.status == 200:
            await self._take(answer)
        elif answer.etag == self.applied:
            self._rejected = None
        if self._rejected is None:
            self._confirmed_at_s = self._clock.now_s()
        if self._say() != said or answer.was_held or not was_connected:
            return 0.0
        return self._idle_s(answer)

    async def _follow_control_plane(self) -> None:
        while True:
            try:
                pause_s = await self.poll_once()
            except Exception:
                log.exception("a poll failed in a way that nobody foresaw")
                pause_s = self._advice.interval_s
            self._answered.set()
            await self._world.sleep(pause_s)

    async def _follow_clock(self) -> None:
        while True:
            pause_s = self.follow_schedule()
            self._clock_learned.clear()
            # Not wait_for: on Python 3.11 it may swallow a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._clock_learned.wait()

    async def _take(self, answer: Answer) -> None:
        """Validate, apply, store, and only then advance the ETag."""
        if self._rejected is not None and self._rejected[0] == answer.etag:
            return
        try:
            publication = parse_publication(parse_body(answer.body), answer.etag)
            self._adopt(publication)
        except PolicyRejected as problem:
            self._reject(answer.etag, problem)
            return
        self._rejected = None
        if await self._save(publication, answer.etag):
            self._etag = self.applied

    def _adopt(self, publication: Publication) -> None:
        environment, service = self._address
        # The fleet default, served to a service that nobody registered, names no service.
        if publication.environment != environment or publication.service not in ("", service):
            address = f"{publication.environment}/{publication.service}"
            raise PolicyRejected("", f"it is for {address}, not for {environment}/{service}")
        self._in_force.adopt(publication, self._clock.now_s())
        self._clock_learned.set()

    async def _save(self, publication: Publication, etag: str) -> bool:
        if self._store is None:
            return True
        copy = StoredPublication(
            etag, publication.document, self._clock.skew_s, self._clock.now_s()
        )
        try:
            await asyncio.to_thread(self._store.save, copy)
        except OSError as problem:
            # Enforced all the same; the ETag stays, so the next answer brings it again.
            log.warning("the policy could not be stored in %s: %s", self._store.path, problem)
            return False
        return True

    def _reject(self, etag: str, problem: PolicyRejected) -> None:
        if self._rejected != (etag, str(problem)):
            log.error("policy %s rejected, the old one stays: %s", etag, problem)
        self._rejected = (etag, str(problem))

    def _say(self) -> Said:
        tag, reason = self._rejected or (None, "")
        return Said(self._etag, self.applied, tag, reason)

    @property
    def _advice(self) -> PollAdvice:
        publication = self._in_force.publication
        return PollAdvice() if publication is None else publication.poll

    def _stand_alone(self, problem: Unavailable) -> float:
        """The wait after a failed poll: exponential with full jitter, or what the server asks."""
        if self._is_connected or not self._failures:
            log.warning("the control plane gives no answer, the policy stays: %s", problem)
        self._is_connected = False
        self._failures += 1
        uniform, interval_s = self._world.uniform(), self._advice.interval_s
        if problem.is_refusal:
            pause_s = interval_s * (0.5 + uniform)
        else:
            doublings = min(self._failures - 1, 10)
            pause_s = min(_FIRST_BACKOFF_S * 2.0**doublings, interval_s) * uniform
        if problem.retry_after_s is not None:
            asked_s = min(problem.retry_after_s, _LONGEST_RETRY_AFTER_S)
            pause_s = max(pause_s, asked_s + min(asked_s, interval_s) * uniform)
        return pause_s

    def _idle_s(self, answer: Answer) -> float:
        """The wait after an answer that came at once and changed nothing.

        Either the server does not hold polls, or it is leaving and woke everybody: spread out.
        """
        uniform, advice = self._world.uniform(), self._advice
        if answer.status == 200:
            return _UNCHANGED_S * uniform
        if self._wait_s:
            return advice.interval_s * uniform
        return advice.interval_s * (1.0 + advice.jitter_ratio * (2.0 * uniform - 1.0))

    def _notice_skew(self) -> None:
        self._clock_learned.set()
        skew_s = self._clock.skew_s
        is_skewed = abs(skew_s) > MAX_SILENT_SKEW_S
        if is_skewed and not self._is_skewed:
            log.warning(
                "this machine's clock is %.1f s %s the control plane's, which schedules follow",
                abs(skew_s),
                "behind" if skew_s > 0 else "ahead of",
            )
        self._is_skewed = is_skewed


def _make_instance_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80] or "host"
    return f"{host}-{os.getpid()}-{secrets.token_hex(3)}"
