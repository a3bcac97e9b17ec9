"""Children: they end with their supervisor, come back with backoff, and stop in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
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

SLEEPER = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('up', flush=True); signal.pause()",
)
ROOT = Path(__file__).resolve().parents[2]


def until(is_so: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait for another process; fails when it takes too long."""
    give_up_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < give_up_s, "it did not happen in time"
        threading.Event().wait(0.01)


def tick_until(supervisor: Supervisor, is_so: Callable[[], bool]) -> None:
    def look() -> bool:
        supervisor.tick()
        return is_so()

    until(look)


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


said: list[str] = []


def spec(
    name: str, argv: tuple[str, ...] = SLEEPER, stage: int = 0, stop_s: float = 4
) -> ProcessSpec:
    return ProcessSpec(name, stage, argv, env=dict(os.environ), stop_s=stop_s)


def test_a_child_writes_to_its_own_log(supervisor: Supervisor) -> None:
    child = supervisor.start(spec("worker"))

    until(lambda: read(child.log_path) == "up\n")

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


def test_a_child_that_keeps_dying_is_started_less_and_less_often(tmp_path: Path) -> None:
    child = Child(spec("broken", (sys.executable, "-c", "raise SystemExit(3)")), tmp_path / "log")
    pauses = []
    for _ in range(3):
        child.start(now_s=100.0)
        until(lambda: child.reap(now_s=100.0))
        pauses.append(child.restart_at_s - 100.0)

    assert pauses == [0.5, 1.0, 2.0]
    assert child.last_exit == "ended with code 3"


def test_a_child_that_ran_long_enough_starts_over_with_a_short_pause(tmp_path: Path) -> None:
    child = Child(spec("fine", (sys.executable, "-c", "pass")), tmp_path / "log")
    for ran_s in (0.0, 0.0, 60.0):
        child.start(now_s=0.0)
        until(lambda ran_s=ran_s: child.reap(now_s=ran_s))  # type: ignore[misc]

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


def test_stages_stop_in_order_and_a_child_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    stubborn = Child(spec("load", STUBBORN, stage=0, stop_s=0.2), tmp_path / "load.log")
    server = Child(spec("server", SLEEPER, stage=1), tmp_path / "server.log")
    for child in (stubborn, server):
        child.start(time.monotonic())
        until(lambda child=child: read(child.log_path) == "up\n")  # type: ignore[misc]

    stop_in_stages([server, stubborn], time.monotonic() + 5)

    assert stubborn.last_exit == "was ended by SIGKILL"
    assert server.last_exit == "was ended by SIGTERM"


def test_a_fork_runs_a_function_with_the_given_environment(tmp_path: Path) -> None:
    def work() -> None:
        print(sorted(os.environ), flush=True)
        raise SystemExit(4)

    child = Child(ProcessSpec("fork", 0, run=work, env={"ONLY": "this"}), tmp_path / "log")
    child.start(0.0)
    until(lambda: child.reap(0.0))

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
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    table = json.loads((state_dir / "processes.json").read_text())
    pids = [entry["pid"] for entry in table.values()]
    assert all(is_alive(pid) for pid in pids)

    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()

    until(lambda: not any(is_alive(pid) for pid in pids))


def test_an_exit_is_described_in_words() -> None:
    assert describe_exit(signal.SIGTERM) == "was ended by SIGTERM"
    assert describe_exit(2 << 8) == "ended with code 2"
