"""The figures of a soak: printed with their bars, and bounded by SOAK_MINUTES."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

SOAK = """
import pytest
pytestmark = pytest.mark.soak

def test_quick(figures):
    figures.note("a count", 7, "")
    figures.check("a time", 1.5, "s", at_most=2.0)

def test_slow(figures):
    figures.check("another time", 2.5, "s", at_most=2.0)
"""


@pytest.fixture
def soak(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(SOAK)
    pytester.makeini(
        "[pytest]\nmarkers = soak: takes time\nasyncio_default_fixture_loop_scope = function"
    )
    return pytester


def run(soak: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, minutes: str) -> pytest.RunResult:
    monkeypatch.setenv("SOAK_MINUTES", minutes)
    return soak.runpytest_inprocess(
        "-p", "tests.soak.figures", "-p", "no:randomly", "-p", "no:django", "-rs"
    )


def test_every_figure_is_printed_with_its_bar_and_one_beyond_it_fails(
    soak: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(soak, monkeypatch, "5")

    done.assert_outcomes(passed=1, failed=1)
    done.stdout.re_match_lines_random(
        [r"a count +7\.000 .*met", r"a time +1\.500 s .*at most 2 s +met"]
    )
    done.stdout.re_match_lines_random([r"another time +2\.500 s .*at most 2 s +OVER"])


def test_what_has_not_begun_when_the_minutes_are_over_is_left_out_and_said(
    soak: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run(soak, monkeypatch, "1e-9")

    done.assert_outcomes(skipped=2)
    done.stdout.re_match_lines_random([r"not begun within 1e-09 minutes: .*test_quick"])


@pytest.mark.parametrize("minutes", ["soon", "0", "-1", "inf", "nan"])
def test_minutes_that_are_no_number_above_zero_are_refused(
    soak: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, minutes: str
) -> None:
    done = run(soak, monkeypatch, minutes)

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.re_match_lines_random([rf".*SOAK_MINUTES is '{minutes}'; expected a number"])
