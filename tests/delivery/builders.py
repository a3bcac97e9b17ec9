"""What delivery tests build: publications, a config API in memory, and requests to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.snapshot import PublishedPolicy, ScheduledPolicy, Snapshot
from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.asgi import AsgiPlane
from controlplane.delivery.hotpath.auth import RateLimit, TokenRecord, TokenTable
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.polls import Poll
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.requests import Adapter, Held, Request
from controlplane.delivery.hotpath.store import SnapshotStore

Result = TypeVar("Result")

NOW = datetime(2026, 11, 2, 2, 14, 0, tzinfo=UTC)
CHECKOUT = "/config/v1/prod/checkout"
CHECKOUT_TOKEN = "tgs_" + "c" * 43
NEWCOMER_TOKEN = "tgs_" + "n" * 43  # of a service that nobody registered


class Clock:
    """Wall time in Unix seconds, moved by hand or by a virtual loop."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now_unix = now.timestamp()

    def __call__(self) -> float:
        return self.now_unix

    def pass_s(self, seconds: float) -> None:
        self.now_unix += seconds


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it; wall time follows."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        super().__init__()

    def time(self) -> float:
        return self.elapsed_s

    def wall_unix(self) -> float:
        return NOW.timestamp() + self.elapsed_s

    def _run_once(self) -> None:
        timers = [timer.when() for timer in self._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]
        if not self._ready and timers:  # type: ignore[attr-defined]
            self.elapsed_s = max(self.elapsed_s, min(timers))
        super()._run_once()  # type: ignore[misc]


def run_virtually(story: Callable[[VirtualTimeLoop], Coroutine[Any, Any, Result]]) -> Result:
    """Run a story in virtual time: hours pass at once, and always in the same order."""
    loop = VirtualTimeLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(story(loop))


async def let_others_run() -> None:
    """Give every task that can go on the chance to."""
    for _ in range(10):
        await asyncio.sleep(0)


def published(
    sequence: int = 7,
    *,
    service: str = "checkout",
    environment: str = "prod",
    policy: Mapping[str, Any] | None = None,
    scheduled: Sequence[tuple[float, Mapping[str, Any]]] = (),
    cohort: str = "",
    ratio: float = 0.0,
    salt: str = "",
) -> PublishedPolicy:
    """A publication; `scheduled` is (seconds from NOW, policy) in order."""
    return PublishedPolicy(
        environment=environment,
        service=service,
        version=3,
        sequence=sequence,
        etag=f"{sequence}-0-9f3c",
        issued_at=NOW,
        policy={"inbound": {"deadline_ms": 3000}} if policy is None else policy,
        scheduled=tuple(
            ScheduledPolicy(
                at=NOW + timedelta(seconds=at_s),
                reason=f"override {number} ends",
                etag=f"{sequence}-{number}-9f3c",
                policy=later,
            )
            for number, (at_s, later) in enumerate(scheduled, start=1)
        ),
        cohort=cohort,
        ratio=ratio,
        salt=salt,
    )


def snapshot(sequence: int = 7, **fields: Any) -> Snapshot:
    """What is served of `published(...)`."""
    return compile_snapshot(published(sequence, **fields))


def token_record(
    text: str, service: str, environment: str = "prod", expires_at_unix: float | None = None
) -> TokenRecord:
    return TokenRecord(
        sha256(text.encode()).hexdigest(), environment, service, expires_at_unix=expires_at_unix
    )


@dataclass(slots=True)
class Plane:
    """A config API in memory, and its parts."""

    clock: Callable[[], float]
    store: SnapshotStore
    tokens: TokenTable
    reports: ReportBuffer
    gate: Gate
    config: ConfigApp
    delivery: DeliveryPlane
    app: AsgiPlane


def make_plane(
    *snapshots: Snapshot,
    clock: Callable[[], float] | None = None,
    max_parked: int = 100,
    limit: RateLimit | None = None,
    sends_date: bool = False,
    adapters: Callable[[Gate, ReportBuffer], Mapping[str, Adapter]] = lambda gate, reports: {},
) -> Plane:
    """A loaded config API with tokens for `checkout`, `payments` and an unregistered service."""
    clock = clock or Clock()
    store, tokens, reports = SnapshotStore(clock), TokenTable(), ReportBuffer()
    for each in snapshots or (snapshot(),):
        store.swap(each)
    store.is_loaded = True
    tokens.replace(
        [token_record(CHECKOUT_TOKEN, "checkout"), token_record(NEWCOMER_TOKEN, "newcomer")]
    )
    gate = Gate(store, tokens, clock=clock, limit=limit or RateLimit())
    config = ConfigApp(gate, reports, max_held=max_parked)
    delivery = DeliveryPlane(config, adapters=adapters(gate, reports), addresses={})
    app = AsgiPlane(delivery, clock if sends_date else None)
    return Plane(clock, store, tokens, reports, gate, config, delivery, app)


@dataclass(slots=True)
class Reply:
    """One response as a client sees it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Client:
    """One connection: it can leave, and remembers what it was sent."""

    messages: list[Any] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.left.set()  # as servers do once the answer is complete

    def reply(self) -> Reply:
        start, body = self.messages
        return Reply(
            status=start["status"],
            headers={name.decode(): value.decode("latin-1") for name, value in start["headers"]},
            body=body["body"],
        )


def request_scope(
    path: str = CHECKOUT,
    *,
    method: str = "GET",
    token: str | None = CHECKOUT_TOKEN,
    headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    query: str = "",
) -> dict[str, Any]:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if token is not None:
        pairs.append(("authorization", f"Bearer {token}"))
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
    }


async def ask(plane: Plane, path: str = CHECKOUT, **request: Any) -> Reply:
    """Send one request and return the answer."""
    client = Client()
    await plane.app(request_scope(path, **request), client.receive, client.send)
    return client.reply()


def answer(plane: Plane, path: str = CHECKOUT, **request: Any) -> Reply:
    """Send one request from a test that is not a coroutine, such as one with a database."""
    return asyncio.run(ask(plane, path, **request))


def begin(plane: Plane, client: Client, path: str = CHECKOUT, **request: Any) -> asyncio.Task[None]:
    """Send one request and go on without its answer."""
    return asyncio.ensure_future(
        _as_coroutine(plane.app(request_scope(path, **request), client.receive, client.send))
    )


async def _as_coroutine(awaitable: Awaitable[None]) -> None:
    await awaitable


NOBODY: Any = object()  # a client that is never spoken to


def respond(plane: Plane, **request: Any) -> tuple[Answer | Held, Poll | None]:
    """Ask the plane itself, without a server."""
    scope = request_scope(request.pop("path", CHECKOUT), **request)
    return plane.delivery.respond(
        Request(scope["method"], scope["path"], scope["query_string"], scope["headers"]), NOBODY
    )
