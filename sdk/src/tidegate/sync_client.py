"""The policy client for services that work in threads: the same client, in a thread of its own.

After a fork the child has no such thread. It gets one, with the policy of before in force and an
identity of its own, so that a server that forks its workers needs no care.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType

from tidegate.client import PolicyClient, Surroundings
from tidegate.credentials import Token, bearer_of
from tidegate.identity import forked_name
from tidegate.in_force import Subscriber
from tidegate.key_ring import PinnedKey
from tidegate.ladder import AUTO
from tidegate.metrics import Metrics
from tidegate.policy import Policy

_STOP_S = 5.0


class SyncPolicyClient:
    """Keeps the policy of this process current, for Flask, Django and anything else in threads.

    Arguments are those of `PolicyClient`; an `instance_id` gets the process id added in forked
    children. `start` and `stop` block; everything else may be called from any thread, at any time.
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
    ) -> None:
        self._metrics = Metrics() if metrics is None else metrics
        self._subscribers = list(on_change)
        self._instance_id = instance_id
        self._first_answer_s = 2.0
        self._switching = threading.RLock()
        self._running: _Running | None = None
        self._pid = os.getpid()
        self._beginning: dict[int, threading.Lock] = {}  # by process
        # No cycle through self: a client that nobody holds any more is gone, and stopped, at once.
        self._make = partial(
            PolicyClient,
            url,
            environment,
            service,
            bearer_of(token),
            state_dir=state_dir,
            wait_s=wait_s,
            transport=transport,
            pinned_keys=None if pinned_keys is None else tuple(pinned_keys),
            on_change=self._subscribers,
            metrics=self._metrics,
        )
        self._client = self._make_client(instance_id)
        _forks.clients.add(self)

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._client.policy

    @property
    def metrics(self) -> Metrics:
        """Where this process counts."""
        return self._metrics

    @property
    def instance_id(self) -> str:
        """Names this process; another one in each forked child."""
        self._ensure_own_process()
        return self._client.instance_id

    @property
    def sequence(self) -> int | None:
        """The publication in force; None while on `SAFE_DEFAULTS`."""
        return self._client.sequence

    @property
    def applied(self) -> str | None:
        """The tag of the policy in force; None while on `SAFE_DEFAULTS`."""
        return self._client.applied

    @property
    def etag(self) -> str | None:
        """The tag of the last policy that was both applied and stored."""
        return self._client.etag

    @property
    def rejected(self) -> tuple[str, str] | None:
        """The tag of a publication that cannot be applied, and why; None when there is none."""
        return self._client.rejected

    @property
    def transport(self) -> str:
        """How policies come at present: `stream`, `long_poll` or `poll`."""
        return self._client.transport

    @property
    def signature_failures(self) -> int:
        """How many deliveries were refused because no trusted key signed them."""
        return self._client.signature_failures

    @property
    def age_s(self) -> float | None:
        """Seconds since the control plane last confirmed the policy; None when it never did."""
        return self._client.age_s

    @property
    def is_stale(self) -> bool:
        """Whether nobody confirmed the policy for `max_stale_s`. It stays in force all the same."""
        return self._client.is_stale

    @property
    def is_running(self) -> bool:
        """Whether this process follows the control plane."""
        self._ensure_own_process()
        return self._running is not None and self._running.is_alive

    def subscribe(self, callback: Subscriber) -> None:
        """Have `callback` called with the policy in force, now, and with each new one.

        Now, because the policy may have changed in the other thread since the caller looked.
        """
        with self._switching:
            callback(self._client.policy)
            self._subscribers.append(callback)
            self._client.subscribe(callback)

    def start(self, *, first_answer_s: float = 2.0) -> None:
        """Put the copy on disk in force, then follow the control plane in a thread.

        Returns after the first answer or failure, at the latest after `first_answer_s`.
        A second call does nothing.
        """
        self._ensure_own_process()
        with self._switching:
            if self.is_running:
                return
            self._first_answer_s = first_answer_s
            running = self._running = _Running(self._client, first_answer_s)
            self._stop_at_exit = weakref.finalize(self, running.stop)
        running.wait_for_first_answer()

    def stop(self) -> None:
        """Stop following; the policy in force stays in force. A second call does nothing."""
        self._ensure_own_process()
        with self._switching:
            running, self._running = self._running, None
        if running is None:
            return
        self._stop_at_exit.detach()
        running.stop()

    def __enter__(self) -> SyncPolicyClient:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def hold(self) -> None:
        """Let no policy be half applied while the process forks."""
        self._ensure_own_process()
        self._switching.acquire()

    def release(self) -> None:
        """Go on, in the parent."""
        self._switching.release()

    def begin_again(self) -> None:
        """Follow the control plane in a forked child too, if the parent did: in our own thread."""
        self._switching = threading.RLock()
        running, self._running = self._running, None
        given = self._instance_id
        new = self._make_client(None if given is None else forked_name(given, os.getpid()))
        new.take_over(self._client.hand_over())
        self._client = new
        if running is not None:
            _left_behind.append(running)
            self._stop_at_exit.detach()
            running = self._running = _Running(self._client, self._first_answer_s)
            self._stop_at_exit = weakref.finalize(self, running.stop)
        self._pid = os.getpid()  # last: other threads go on from here

    def _ensure_own_process(self) -> None:
        """Begin again in a child of a fork that called none of Python's hooks, such as uWSGI's.

        Its locks may be held by threads that are no more, except for one that this process made.
        """
        if self._pid == os.getpid():
            return
        with self._beginning.setdefault(os.getpid(), threading.Lock()):
            if self._pid != os.getpid():
                self.begin_again()

    def _make_client(self, instance_id: str | None) -> PolicyClient:
        surroundings = Surroundings(in_thread=_here, switching=self._switching)
        return self._make(instance_id=instance_id, surroundings=surroundings)


class _Running:
    """One client on an event loop in a thread, from now until `stop`."""

    def __init__(self, client: PolicyClient, first_answer_s: float) -> None:
        self._client = client
        self._first_answer_s = first_answer_s
        self._pid = os.getpid()
        self._has_answer = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="tidegate", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def wait_for_first_answer(self) -> None:
        # A second more than the client itself waits, which then says that there was none.
        self._has_answer.wait(self._first_answer_s + 1.0)

    def stop(self) -> None:
        if self._pid != os.getpid():
            return  # the thread is another process's, and so is what would wake it
        with contextlib.suppress(RuntimeError):  # the loop is closed: stopped already
            self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not threading.current_thread():  # where garbage may be collected, too
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._follow())
        finally:
            self._has_answer.set()

    async def _follow(self) -> None:
        await self._client.start(first_answer_s=self._first_answer_s)
        self._has_answer.set()
        await self._stopping.wait()
        await self._client.stop()


async def _here(work: Callable[[], None]) -> None:
    """Block the event loop, on which nothing waits but the policy."""
    work()


class _Forks:
    """Every client of this process, and the forks of it: one at a time, with no switch half done.

    Lock order: `_one_at_a_time`, then each client's own.
    """

    def __init__(self) -> None:
        self.clients: weakref.WeakSet[SyncPolicyClient] = weakref.WeakSet()
        self._one_at_a_time = threading.Lock()
        self._held: list[SyncPolicyClient] = []

    def before(self) -> None:
        self._one_at_a_time.acquire()
        self._held = list(self.clients)
        for client in self._held:
            client.hold()

    def after_in_parent(self) -> None:
        held, self._held = self._held, []
        for client in held:
            client.release()
        self._one_at_a_time.release()

    def after_in_child(self) -> None:
        # uWSGI calls this and not `before`: nobody says which were held, so all begin again.
        self._held = []
        self._one_at_a_time = threading.Lock()
        for client in list(self.clients):
            client.begin_again()


_forks = _Forks()
# Loops and sockets that belong to the parent. Closing them here would reach into its epoll.
_left_behind: list[object] = []

# Registered after the hooks of `tidegate.forks`, so in a child every lock is new by then.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forks.before,
        after_in_parent=_forks.after_in_parent,
        after_in_child=_forks.after_in_child,
    )
