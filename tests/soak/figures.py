"""What a soak measures: figures with their bars, printed at the end, within SOAK_MINUTES.

`make soak` runs what needs time, load or luck. A test hands what it measured to `figures.check`,
which fails beyond the bar; every figure stands in the table at the end, also those that failed.
What has not begun when the minutes are over is left out, and said.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from tests.waiting import HUNG_S, wait_until

DEFAULT_MINUTES = 15.0
FIGURES = pytest.StashKey["Figures"]()


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement; it should be at most `bar`."""

    name: str
    value: float
    unit: str
    bar: float

    @property
    def is_met(self) -> bool:
        return self.value <= self.bar

    def __str__(self) -> str:
        verdict = "met" if self.is_met else "OVER"
        bar = "" if math.isinf(self.bar) else f"at most {self.bar:g} {self.unit}"
        return f"{self.name:<72} {self.value:10.3f} {self.unit:<6} {bar:<16} {verdict}"


@dataclass(slots=True)
class Figures:
    """The figures of this run, and how much of its time is left."""

    minutes: float
    began_s: float = field(default_factory=time.monotonic)
    noted: list[Figure] = field(default_factory=list)
    not_begun: list[str] = field(default_factory=list)

    @property
    def minutes_left(self) -> float:
        """How many of SOAK_MINUTES remain; never negative."""
        return max(0.0, self.minutes - (time.monotonic() - self.began_s) / 60)

    def note(self, name: str, value: float, unit: str) -> None:
        """Print a figure that has no bar."""
        self.noted.append(Figure(name, value, unit, math.inf))

    def check(self, name: str, value: float, unit: str, *, at_most: float) -> None:
        """Print a figure, and fail when it is beyond its bar."""
        figure = Figure(name, value, unit, at_most)
        self.noted.append(figure)
        assert figure.is_met, str(figure)


def seconds_until(is_so: Callable[[], object], what: str, *, hung_s: float = HUNG_S) -> float:
    """Wait as `wait_until` does, and return how long it took."""
    began_s = time.monotonic()
    wait_until(is_so, what=what, hung_s=hung_s)
    return time.monotonic() - began_s


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count the minutes.

    Raises:
        pytest.UsageError: SOAK_MINUTES is not a positive number.
    """
    text = os.environ.get("SOAK_MINUTES", "") or str(DEFAULT_MINUTES)
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < math.inf:
        raise pytest.UsageError(f"SOAK_MINUTES is {text!r}; expected a number of minutes above 0")
    config.stash[FIGURES] = Figures(minutes)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave out what has not begun when the minutes are over."""
    figures = item.config.stash[FIGURES]
    if item.get_closest_marker("soak") is not None and not figures.minutes_left:
        figures.not_begun.append(item.nodeid)
        pytest.skip(f"the {figures.minutes:g} minutes of SOAK_MINUTES are over")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print every figure, and what was not begun."""
    figures = config.stash[FIGURES]
    if figures.noted:
        terminalreporter.section("figures")
        for figure in figures.noted:
            terminalreporter.line(str(figure))
    for name in figures.not_begun:
        terminalreporter.line(f"not begun within {figures.minutes:g} minutes: {name}")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Where a soak test says what it measured."""
    return request.config.stash[FIGURES]
