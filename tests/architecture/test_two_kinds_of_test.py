"""What `make test` and `make soak` run: every test in one of them, and no clock in the first."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from deploy.local import suite

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SOAKS = [path for path in TESTS if re.search(r"^pytestmark\b.*\bsoak\b", path.read_text(), re.M)]
# Part of a soak, or of what waits for events, or of the clock of a loop of its own.
MAY_READ_CLOCKS = {"tests/soak", "tests/survival", "tests/waiting.py"}
CLOCKS = {"monotonic", "perf_counter", "perf_counter_ns", "monotonic_ns", "process_time"}


def is_under(path: Path, folders: tuple[str, ...] | set[str]) -> bool:
    relative = path.relative_to(ROOT)
    return any(relative.is_relative_to(folder) for folder in folders)


@pytest.mark.parametrize(
    ("mark", "folders"),
    [
        ("scenario", suite.WITH_REAL_PARTS + suite.WITH_STACK),
        ("browser", suite.WITH_STACK),
        ("soak", suite.WITH_SOAK),
    ],
)
def test_what_is_marked_is_where_its_part_looks_for_it(mark: str, folders: tuple[str, ...]) -> None:
    others = [path for path in TESTS if path != Path(__file__)]
    marked = [path for path in others if re.search(rf"pytest\.mark\.{mark}\b", path.read_text())]
    marked = [path for path in marked if "pytester" not in path.read_text()]

    assert marked
    assert [str(path) for path in marked if not is_under(path, folders)] == []


def test_every_test_of_the_soak_s_folder_is_a_soak() -> None:
    tests = [path for path in TESTS if is_under(path, {"tests/soak"}) and "test_" in path.name]

    assert [str(path) for path in tests if path not in SOAKS] == []


@pytest.mark.parametrize(
    "path",
    [path for path in TESTS if path not in SOAKS and not is_under(path, MAY_READ_CLOCKS)],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_no_verdict_compares_how_long_something_took(path: Path) -> None:
    """A clock may be handed to the product; subtracted or compared, it is a stopwatch."""
    found = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Compare)
        or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub))
        if any(is_clock(each) for each in ast.walk(node))
    ]

    assert found == [], "a claim about time belongs into tests/soak"


def is_clock(node: ast.AST) -> bool:
    """Whether a node reads a clock that does not stop: `time.monotonic()` and the like."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "time"
        and node.func.attr in CLOCKS
    )
