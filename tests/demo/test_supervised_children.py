"""Children: they end with their supervisor, come back with backoff, and stop in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.children import (
    FIRST_BACKOFF_S,
    Child,
    ProcessSpec,
    describe_exit,
    stop_in_stages,
)
from deploy.local.state import open_state_dir
from deploy.local.supervisor import Supervisor
from tests.waiting import HUNG_S, wait_until

SLEEPER = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); signal.pause()",
)
ROOT = Path(__file__).resolve().parents[2]


def tick_until(supervisor: Supervisor, is_so: Callable[[], bool]) -> None:
    def look() -> bool:
        supervisor.tick()
        return is_so()

    wait_until(look)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pid_of(child: Child) -> int:
    assert child.pid is not None
    return child.pid


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(open_state_dir(tmp_path / "state"), said.append)
    said.clear()
    yield made
    for child in made.children.values():
        child.kill_group()
    made.stop()


@pytest.fixture
def make_child(tmp_path: Path) -> Iterator[Callable[[ProcessSpec], Child]]:
    """Makes children with logs of their own, of which none outlives its test."""
    made: list[Child] = []

    def make(what: ProcessSpec) -> Child:
        made.append(Child(what, tmp_path / f"{what.name}.log"))
        return made[-1]

    yield make
    for child in made:
        child.kill_group()
        wait_until(lambda child=child: child.pid is None or child.reap(0.0))  # type: ignore[misc]


said: list[str] = []


def spec(
    name: str, argv: tuple[str, ...] = SLEEPER, stage: int = 0, stop_s: float = 4
) -> ProcessSpec:
    return ProcessSpec(name, stage, argv, env=dict(os.environ), stop_s=stop_s)


def test_a_child_writes_to_its_own_log(supervisor: Supervisor) -> None:
    child = supervisor.start(spec("worker"))

    wait_until(lambda: read(child.log_path) == "up\n")

    assert child.log_path == supervisor.state_dir / "logs" / "worker.log"


def test_a_child_that_dies_comes_back_after_a_pause_and_the_user_is_told(
    supervisor: Supervisor,
) -> None:
    child = supervisor.start(spec("worker"))
    first = pid_of(child)

    os.kill(first, signal.SIGKILL)
    tick_until(supervisor, lambda: child.restarts == 1)

    assert pid_of(child) != first
    assert child.started_at_s - child.restart_at_s >= 0
    assert said == [
        f"worker was ended by SIGKILL; starting it again in {FIRST_BACKOFF_S} s "
        f"(log: {child.log_path})"
    ]


def test_a_child_that_keeps_dying_is_started_less_and_less_often(
    make_child: Callable[[ProcessSpec], Child],
) -> None:
    child = make_child(spec("broken", ("sh", "-c", "exit 3")))
    pauses = []
    for _ in range(3):
        child.start(now_s=100.0)
        wait_until(lambda: child.reap(now_s=100.0))
        pauses.append(child.restart_at_s - 100.0)

    assert pauses == [0.5, 1.0, 2.0]
    assert child.last_exit == "ended with code 3"


def test_a_child_that_ran_long_enough_starts_over_with_a_short_pause(
    make_child: Callable[[ProcessSpec], Child],
) -> None:
    child = make_child(spec("fine", ("true",)))
    for ran_s in (0.0, 0.0, 60.0):
        child.start(now_s=0.0)
        wait_until(lambda ran_s=ran_s: child.reap(now_s=ran_s))  # type: ignore[misc]

    assert child.restart_at_s - 60.0 == FIRST_BACKOFF_S


def test_a_held_child_stays_down_until_it_is_released(supervisor: Supervisor) -> None:
    child = supervisor.start(spec("web"))
    first = pid_of(child)
    held = supervisor.state_dir / "held" / "web"

    held.touch()
    tick_until(supervisor, lambda: child.pid is None)
    child.restart_at_s = 0.0
    supervisor.tick()
    assert child.pid is None
    assert not is_alive(first)

    held.unlink()
    tick_until(supervisor, lambda: child.pid is not None)
    assert said == [f"web is held: stopped until {held} is removed", "web is released"]


def test_the_process_table_names_every_child(supervisor: Supervisor) -> None:
    child = supervisor.start(spec("web"))

    table = json.loads((supervisor.state_dir / "processes.json").read_text())

    assert table == {"web": {"pid": child.pid, "restarts": 0}}


def test_stages_stop_in_order_and_a_child_that_will_not_stop_is_killed(
    make_child: Callable[[ProcessSpec], Child],
) -> None:
    stubborn = make_child(spec("load", STUBBORN, stage=0, stop_s=0.2))
    server = make_child(spec("server", SLEEPER, stage=1, stop_s=HUNG_S))
    for child in (stubborn, server):
        child.start(time.monotonic())
        wait_until(lambda child=child: read(child.log_path) == "up\n")  # type: ignore[misc]

    stop_in_stages([server, stubborn], time.monotonic() + 2 * HUNG_S)

    assert stubborn.last_exit == "was ended by SIGKILL"
    assert server.last_exit == "was ended by SIGTERM"


def test_a_fork_runs_a_function_with_the_given_environment(
    make_child: Callable[[ProcessSpec], Child],
) -> None:
    def work() -> None:
        print(sorted(os.environ), flush=True)
        raise SystemExit(4)

    child = make_child(ProcessSpec("fork", 0, run=work, env={"ONLY": "this"}))
    child.start(0.0)
    wait_until(lambda: child.reap(0.0))

    assert child.last_exit == "ended with code 4"
    assert read(child.log_path) == "['ONLY']\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_supervisor_that_dies(tmp_path: Path, number: signal.Signals) -> None:
    state_dir = open_state_dir(tmp_path / "state")
    program = (
        "import os, signal, sys; from pathlib import Path;"
        "from deploy.local.supervisor import Supervisor;"
        "from deploy.local.children import ProcessSpec;"
        f"s = Supervisor(Path({str(state_dir)!r}), print);"
        f"s.start(ProcessSpec('executed', 0, {SLEEPER!r}, env=dict(os.environ)));"
        "s.start(ProcessSpec('forked', 0, run=lambda: signal.pause()));"
        "print('started', flush=True); signal.pause()"
    )
    pids: list[int] = []
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        try:
            assert parent.stdout is not None
            assert parent.stdout.readline() == b"started\n"
            table = json.loads((state_dir / "processes.json").read_text())
            pids += [entry["pid"] for entry in table.values()]
            assert all(is_alive(pid) for pid in pids)

            parent.send_signal(number)
            parent.wait(HUNG_S)

            wait_until(lambda: not any(is_alive(pid) for pid in pids), what="their end")
        finally:
            parent.kill()
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)


def test_an_exit_is_described_in_words() -> None:
    assert describe_exit(signal.SIGTERM) == "was ended by SIGTERM"
    assert describe_exit(2 << 8) == "ended with code 2"
