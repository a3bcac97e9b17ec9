"""Processes that do what a benchmark tells them, a line of JSON at a time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.harness.machine import CLIENT_CORE, ROOT, pin
from benchmarks.harness.processes import DidNotStart
from deploy.local.children import die_with_parent


class Assistant:
    """A process that answers each command before it takes the next."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Have one command done; return its answer."""
        self.tell(what, **arguments)
        return self.hear()

    def tell(self, what: str, **arguments: Any) -> None:
        """Have one command done while we do something else; `hear` must follow."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Wait for the answer to what it was told."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise DidNotStart("a process that a benchmark needs has ended; its words are above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def assistant(
    module: str, env: Mapping[str, str] | None = None, *, core: int = CLIENT_CORE
) -> Iterator[Assistant]:
    """Run `python -m module` until the block ends."""
    parent = os.getpid()

    def become() -> None:
        die_with_parent(signal.SIGKILL, parent)
        pin(core)

    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=become,
    )
    try:
        yield Assistant(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
