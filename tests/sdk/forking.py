"""Runs scripts that fork, in a process group of their own: no child outlives its test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from subprocess import PIPE

from tests.waiting import HUNG_S

# What hangs in a script is said by the script itself, before it is said of the script.
SCRIPT_HUNG_S = HUNG_S + 30.0


@contextlib.contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a script with pipes; at the end whoever is left of it and its children is killed."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def run_forking(script: str, *arguments: str) -> str:
    """Run a script to its end, children included; returns what it printed.

    Raises:
        AssertionError: it failed, or somebody in it hangs.
    """
    with running(script, *arguments) as process:
        return finish(process)


def finish(process: subprocess.Popen[str]) -> str:
    """Close a script's stdin and wait for its end, children included; returns what it printed.

    Raises:
        AssertionError: it failed, or somebody in it hangs.
    """
    try:
        # The pipes are the children's too, so this waits for all of them.
        printed, errors = process.communicate(timeout=SCRIPT_HUNG_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, said = process.communicate()
        raise AssertionError(f"it hangs; it said: {said}") from None
    assert process.returncode == 0, errors
    assert errors == ""
    return printed
