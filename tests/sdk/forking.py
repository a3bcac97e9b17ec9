"""Runs scripts that fork, in a process group of their own: no child outlives its test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from subprocess import PIPE


def run_forking(script: str, *arguments: str, within_s: float = 100.0) -> str:
    """Run a script to its end, children included; returns what it printed.

    Raises:
        AssertionError: it failed, or somebody in it hangs.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=PIPE, stderr=PIPE, text=True, env=environment, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            # The pipes are the children's too, so this waits for all of them.
            printed, errors = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            errors = "it hangs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if errors == "it hangs":
            _, said = process.communicate()
            raise AssertionError(f"it hangs; it said: {said}")
    assert process.returncode == 0, errors
    assert errors == ""
    return printed
