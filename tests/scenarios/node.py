"""One delivery node as a process of its own, on an SQLite file, without Valkey."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ports import find_free_port
from tests.scenarios.stack import ROOT
from tests.waiting import HUNG_S, wait_until

SERVICE = "checkout"


@dataclass(frozen=True, slots=True)
class Node:
    """A running node, and the token of the service `checkout` in `prod`."""

    process: subprocess.Popen[bytes]
    port: int
    token: str
    environment: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def config_path(self) -> str:
        return f"/config/v1/prod/{SERVICE}"

    def publish(self) -> None:
        """Publish another version, as an operator would from another process."""
        run_seed(self.environment, "publish")

    def events(self) -> list[str]:
        """Return the lines of its log."""
        return self.log.read_text().splitlines()

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True, slots=True)
class Seed:
    """A state directory with one service and its token, to be copied for each node."""

    state_dir: Path
    token: str


def make_seed(directory: Path) -> Seed:
    """Make a database with one service, a first version and its token."""
    state_dir = directory / "state"
    return Seed(state_dir, run_seed(_environment(state_dir), "create"))


@contextmanager
def running_node(seed: Seed, directory: Path, *arguments: str) -> Iterator[Node]:
    """Run a node on a copy of `seed` until the block ends."""
    state_dir = directory / "state"
    shutil.copytree(seed.state_dir, state_dir)
    environment = _environment(state_dir)
    port, log = find_free_port(), directory / "node.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "controlplane.delivery.serve",
                "--port", str(port), *arguments,
            ],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    node = Node(process, port, seed.token, environment, log)
    try:
        wait_until(node.is_ready, what="the node to be ready")
        yield node
    finally:
        process.kill()
        process.wait()


def _environment(state_dir: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return {
        **kept,
        "TIDEGATE_STATE_DIR": str(state_dir),
        "TIDEGATE_REDIS_URL": "redis://127.0.0.1:1/0",
        "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.dev",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "sdk/src")]),
    }


def run_seed(environment: dict[str, str], command: str) -> str:
    """Run the seed as a process of its own, with the settings of the node."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenarios.seed_node", command],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=HUNG_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]
