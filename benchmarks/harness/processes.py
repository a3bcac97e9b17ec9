"""Servers as child processes: pinned to a core, unable to outlive us, stopped at the end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.machine import ROOT, pin
from deploy.local.children import die_with_parent

READY_WITHIN_S = 60.0


class DidNotStart(SystemExit):
    """A server that a benchmark needs did not answer in time; the text has its last words."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server process and its port."""

    name: str
    pid: int
    port: int


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    argv: Sequence[str],
    *,
    port: int,
    core: int,
    env: Mapping[str, str] | None = None,
    ready_path: str | None = None,
) -> Iterator[Server]:
    """Run a server until the block ends; it is yielded once it is ready.

    Ready means a 200 to `ready_path`, or an open port when there is none.

    Raises:
        DidNotStart: it ended or was not ready within a minute.
    """
    parent = os.getpid()

    def become() -> None:
        os.setsid()
        die_with_parent(signal.SIGKILL, parent)
        pin(core)

    with tempfile.NamedTemporaryFile(prefix=f"tidegate-bench-{name}-", suffix=".log") as log:
        process = subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=become,
        )
        try:
            _wait_ready(process, port, ready_path, name, Path(log.name))
            yield Server(name, process.pid, port)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(
    process: subprocess.Popen[bytes], port: int, ready_path: str | None, name: str, log: Path
) -> None:
    deadline_s = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            break
        if is_ready(port, ready_path):
            return
        time.sleep(0.005)
    last_words = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise DidNotStart(f"{name} did not start:\n{last_words}")


def is_ready(port: int, path: str | None) -> bool:
    """Say whether the port is open and, with a path, whether it answers 200 there."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            if path is None:
                return True
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
            )
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
