"""`make up` as a whole: it starts, is told to stop, and leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.stack import ROOT, Stack, is_alive
from tests.waiting import HUNG_S, wait_until

pytestmark = pytest.mark.scenario


def start_again(stack: Stack, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TIDEGATE_STATE_DIR": str(stack.state_dir), **variables}
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.supervise"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HUNG_S,
    )


def test_a_second_start_says_that_the_stack_already_runs(stack: Stack) -> None:
    second = start_again(stack, PORT="8999")

    assert second.returncode == 1
    assert f"already runs from this checkout, at {stack.url}" in second.stdout


def test_a_taken_port_names_the_command_that_moves_the_stack(stack: Stack, tmp_path: Path) -> None:
    second = start_again(stack, PORT=str(stack.port), TIDEGATE_STATE_DIR=str(tmp_path / "other"))

    assert second.returncode == 1
    assert second.stdout == (
        f"Port {stack.port} is taken by another program. "
        f"Choose another: PORT={stack.port + 100} make up\n"
    )


def test_an_instance_that_is_killed_comes_back(stack: Stack) -> None:
    before = stack.pids()["search-1"]

    stack.kill("search-1")

    wait_until(lambda: stack.pids().get("search-1", before) != before, what="search-1 to return")


def test_secrets_are_readable_by_their_owner_only(stack: Stack) -> None:
    names = ["secret_key", "valkey_password", "environment", "tokens/operator", "tokens/checkout"]

    assert {
        name: (stack.state_dir / name).stat().st_mode & 0o777 for name in names
    } == dict.fromkeys(names, 0o600)


@pytest.fixture
def supervisor_that_ends(stack: Stack) -> Stack:
    """The stack, of which nothing is left afterwards: no test comes after (see `order`)."""
    return stack


def test_nothing_survives_a_supervisor_that_is_killed(supervisor_that_ends: Stack) -> None:
    pids = supervisor_that_ends.pids()
    assert {"valkey", "prometheus", "web", "worker", "beat", "edge", "load"} < set(pids)

    supervisor_that_ends.process.kill()
    supervisor_that_ends.process.wait()

    wait_until(lambda: not any(is_alive(pid) for pid in pids.values()), what="all to end")
