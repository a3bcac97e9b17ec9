"""A network of our own: one namespace per machine, on two bridges, with wires that can be cut.

```
            front 10.77.0.0/24: clients, nodes, operator
   clients ────┬──────────────┬──────────────┐
             node-1         node-2        operator
               └──────┬───────┴──────────────┘
            back 10.78.0.0/24: database, cache
```
A wire is cut by taking its end off the bridge: packets vanish, nobody is told, no connection is
refused. Nothing outside the namespaces is touched.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
NAMED = Path("/run/netns")
CLIENTS = "clients"
FRONT, BACK = "front", "back"

Result = TypeVar("Result")


class Network:
    """The namespaces of one run; `close` removes them."""

    def __init__(self) -> None:
        _check_possible()
        _remove_leftovers()
        self._prefix = f"tidegate-{os.getpid()}"
        self._names: list[str] = []
        self._wires: dict[str, str] = {}
        self._count = 10
        self._add(CLIENTS)
        for bridge, address in ((FRONT, "10.77.0.1/24"), (BACK, None)):
            self._ip(CLIENTS, "link", "add", bridge, "type", "bridge")
            self._ip(CLIENTS, "link", "set", bridge, "up")
            if address is not None:
                self._ip(CLIENTS, "address", "add", address, "dev", bridge)

    def add(self, name: str, *bridges: str) -> dict[str, str]:
        """Make a machine on these bridges; return its address on each."""
        self._add(name)
        self._count += 1
        addresses = {}
        for bridge in bridges:
            wire = f"{bridge[0]}{self._count}"
            _run("ip", "link", "add", wire, "netns", self._namespace(CLIENTS), "type", "veth",
                 "peer", "name", bridge, "netns", self._namespace(name))  # fmt: skip
            addresses[bridge] = f"10.{77 if bridge == FRONT else 78}.0.{self._count}"
            self._ip(name, "address", "add", f"{addresses[bridge]}/24", "dev", bridge)
            self._ip(name, "link", "set", bridge, "up")
            self._ip(CLIENTS, "link", "set", wire, "master", bridge, "up")
        self._wires[name] = f"{BACK[0]}{self._count}"
        return addresses

    def cut(self, name: str) -> None:
        """Let nothing through between a machine and the back bridge."""
        self._ip(CLIENTS, "link", "set", self._wires[name], "nomaster")

    def mend(self, name: str) -> None:
        """Put the wire back."""
        self._ip(CLIENTS, "link", "set", self._wires[name], "master", BACK)

    def prefix(self, name: str) -> tuple[str, ...]:
        """Return what stands in front of a command line to run it on a machine."""
        return ("nsenter", f"--net={NAMED / self._namespace(name)}")

    def call(self, name: str, work: Callable[[], Result]) -> Result:
        """Run `work` on a machine, in a thread of its own, and return what it returns."""
        outcome: list[Result] = []
        problems: list[BaseException] = []

        def run() -> None:
            try:
                _join(NAMED / self._namespace(name))
                outcome.append(work())
            except BaseException as problem:
                problems.append(problem)

        thread = threading.Thread(target=run, name=f"on {name}")
        thread.start()
        thread.join()
        if problems:
            raise problems[0]
        return outcome[0]

    def close(self) -> None:
        """Remove every namespace; what still runs in them keeps them until it ends."""
        for name in self._names:
            _run("ip", "netns", "delete", self._namespace(name))
        self._names = []

    def _add(self, name: str) -> None:
        _run("ip", "netns", "add", self._namespace(name))
        self._names.append(name)
        self._ip(name, "link", "set", "lo", "up")

    def _ip(self, name: str, *arguments: str) -> None:
        _run("ip", "-n", self._namespace(name), *arguments)

    def _namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"


def _check_possible() -> None:
    if os.geteuid() != 0:
        pytest.fail(
            "these tests cut the network between processes, which needs network namespaces: "
            "run them as root (sudo make test), or leave them out with -m 'not scenario'"
        )
    for program, package in (("ip", "iproute2"), ("nsenter", "util-linux")):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is missing; get it with: apt-get install -y {package}")


def _remove_leftovers() -> None:
    """Remove the namespaces of runs that were killed."""
    for path in NAMED.glob("tidegate-*-*"):
        if not Path(f"/proc/{path.name.split('-')[1]}").exists():
            _run("ip", "netns", "delete", path.name)


def _join(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"could not join {namespace}")
    finally:
        os.close(descriptor)


def _run(*arguments: str) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.strip()}")
