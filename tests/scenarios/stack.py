"""A whole Tidegate on free ports and in a directory of its own, for scenario and browser tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.ports import find_free_port
from tests.waiting import HUNG_S, wait_until

ROOT = Path(__file__).resolve().parents[2]
START_HUNG_S = 300.0  # it starts thirty processes


class Stack:
    """One running Tidegate: where it is, and how to take parts of it away."""

    def __init__(self, state_dir: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.state_dir = state_dir
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self.heard: list[dict[str, Any]] = []  # alerts that came to the webhook, oldest first

    def pids(self) -> dict[str, int]:
        """Return the process id of every running child, by name."""
        table = json.loads((self.state_dir / "processes.json").read_text())
        return {name: entry["pid"] for name, entry in table.items() if entry["pid"]}

    def kill(self, name: str) -> None:
        """End a child at once; the supervisor starts it again."""
        os.kill(self.pids()[name], signal.SIGKILL)

    def hold(self, *names: str) -> None:
        """End children at once and keep them down; returns when they are gone."""
        gone = {pid for name, pid in self.pids().items() if name in names}
        for name in names:
            (self.state_dir / "held" / name).touch()
        wait_until(lambda: not any(is_alive(pid) for pid in gone), what=f"{names} to stop")

    def release(self, *names: str) -> None:
        """Let held children run again; returns when they do, not yet ready."""
        for name in names:
            (self.state_dir / "held" / name).unlink()
        wait_until(lambda: set(names) <= self.pids().keys(), what=f"{names} to start")

    @contextmanager
    def without(self, *names: str) -> Iterator[None]:
        """Hold children during the block; afterwards web, if it is one of them, is ready again."""
        try:
            self.hold(*names)
            yield
        finally:
            self.release(*names)
            if "web" in names:
                wait_until(self.is_ready, what="the web process to be ready again")

    def is_ready(self) -> bool:
        """Say whether the web process answers that it is ready."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def manage(self, *arguments: str) -> str:
        """Run a management command against this stack and return what it printed."""
        environment = {**os.environ, "TIDEGATE_STATE_DIR": str(self.state_dir)}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=HUNG_S,
        )  # fmt: skip
        return done.stdout

    def api(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call the operator API as `oncall` and return the JSON of a successful answer."""
        token = (self.state_dir / "tokens/operator").read_text()
        answer = httpx.request(
            method,
            f"{self.url}/api/v1{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=HUNG_S,
        )
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def query(self, promql: str) -> dict[str, float]:
        """Return an instant query's values, by `service` label (empty when there is none)."""
        environment = dict(
            line.split("=", 1) for line in (self.state_dir / "environment").read_text().splitlines()
        )
        answer = httpx.get(
            f"{environment['TIDEGATE_PROMETHEUS_URL']}/api/v1/query",
            params={"query": promql},
            timeout=HUNG_S,
        )
        return {
            series["metric"].get("service", ""): float(series["value"][1])
            for series in answer.json()["data"]["result"]
        }

    def addresses(self, service: str) -> list[str]:
        """Return the base URL of every instance of a service."""
        document = json.loads((self.state_dir / "fleet.json").read_text())
        return [f"http://{address}" for address in document[service]]

    def logs(self) -> str:
        """Return the last lines of every log, for the message of a failed test."""
        parts = []
        for path in sorted((self.state_dir / "logs").glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-8:]
            if lines:
                parts.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(parts)


@contextmanager
def running_stack(
    directory: Path, *, demo: bool = True, variables: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """Start what `make up` starts, wait until it is ready, and stop all of it after the block.

    Args:
        directory: where state and logs go.
        demo: with the fleet and its load, or without.
        variables: further environment variables of every process.
    """
    port = find_free_port()
    state_dir = directory / "tidegate"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    for name in ("DJANGO_SETTINGS_MODULE", "MAKELEVEL"):
        kept.pop(name, None)
    environment = {
        **kept,
        "TIDEGATE_STATE_DIR": str(state_dir),
        "PORT": str(port),
        "DEMO": "1" if demo else "0",
        **(variables or {}),
    }
    output = directory / "supervisor.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.local.supervise"],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    stack = Stack(state_dir, port, process)
    pids: dict[str, int] = {}
    try:
        _wait_ready(stack, output, "load" if demo else "beat")
        yield stack
    finally:
        if (state_dir / "processes.json").exists():
            pids = stack.pids()
        _stop(process)
    left = {name: pid for name, pid in pids.items() if is_alive(pid)}
    assert not left, f"these processes outlived the stack: {left}"


def is_alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def _wait_ready(stack: Stack, output: Path, last: str) -> None:
    """Return when the process that is started last runs, and the web process is ready."""

    def is_ready() -> bool:
        assert stack.process.poll() is None, (
            f"the stack ended with {stack.process.returncode}:\n{output.read_text()}"
        )
        # The supervisor also waits until the Fleet page shows traffic; so does who looks at that.
        table = stack.state_dir / "processes.json"
        return table.exists() and last in stack.pids() and stack.is_ready()

    try:
        wait_until(is_ready, hung_s=START_HUNG_S, what="the stack to be ready")
    except AssertionError as problem:
        raise AssertionError(f"{problem}\n{output.read_text()}\n{stack.logs()}") from None


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(HUNG_S)
    except subprocess.TimeoutExpired:
        process.kill()  # its children die with it
        process.wait()
        raise AssertionError(f"hung: the stack did not stop within {HUNG_S:.0f} s") from None
