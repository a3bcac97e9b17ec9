"""The parts of `make test`: side by side, each verdict kept, nothing left running."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deploy.local.suite import Part, Suite

PYTEST = """
import os, sys, time
name = sys.argv[-1]
print("part", name, flush=True)
if name == "endless":
    print(os.getpid(), flush=True)
    time.sleep(1000)
sys.exit({"good": 0, "bad": 3, "worse": 4}[name])
"""


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def suite(tmp_path: Path, said: list[str]) -> Suite:
    """A suite whose pytest is a script that ends as its last argument says."""
    (tmp_path / "pytest.py").write_text(PYTEST)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    return Suite(tmp_path, Path(sys.executable), environment, said.append)


def part(name: str) -> Part:
    return Part(name, (name,))


@pytest.mark.parametrize(
    ("in_turn", "beside", "code"),
    [
        (["good", "good"], ["good"], 0),
        (["bad", "good"], [], 3),
        (["good", "bad", "worse"], [], 3),
        (["good"], ["worse"], 4),
    ],
)
def test_the_first_failure_is_the_verdict_and_every_part_runs(
    suite: Suite, said: list[str], in_turn: list[str], beside: list[str], code: int
) -> None:
    found = suite.run([part(name) for name in in_turn], [part(name) for name in beside])

    assert found == code
    assert len([line for line in said if ": exit " in line]) == len(in_turn + beside)


def test_what_runs_beside_is_shown_when_it_has_ended(
    suite: Suite, capfd: pytest.CaptureFixture[str]
) -> None:
    suite.run([part("good")], [part("bad")])

    assert capfd.readouterr().out.splitlines() == ["part good", "part bad"]


def test_nothing_goes_on_when_it_is_interrupted(tmp_path: Path, suite: Suite) -> None:
    output = tmp_path / ".tidegate/test-output/endless.txt"

    def interrupt(line: str) -> None:
        if line.startswith("== good: exit"):
            while "endless" not in (text := output.read_text()) or len(text.splitlines()) < 2:
                pass
            raise KeyboardInterrupt

    interrupted = Suite(tmp_path, suite.python, suite.environment, interrupt)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run([part("good")], [part("endless")])

    pid = int(output.read_text().splitlines()[1])
    assert not Path(f"/proc/{pid}").exists()
