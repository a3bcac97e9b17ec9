"""Curves and timelines share one logarithmic axis and stay small however many instances."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.charts.propagation import HEIGHT, WIDTH, axis, curve, journey, position

NUMBER = r"-?[0-9.]+"


def drawn(times_s: list[float], *, concerned: int | None = None, age_s: float = 300.0) -> str:
    return curve(
        applied_s=sorted(times_s), fetched_s=[], concerned=concerned or max(1, len(times_s)),
        rejected=0, p50_s=None, p99_s=None, age_s=age_s,
    ).applied  # fmt: skip


def points(path: str) -> list[tuple[float, float]]:
    found = re.findall(rf"[ML]({NUMBER}) ({NUMBER})", path)
    return [(float(x), float(y)) for x, y in found]


@pytest.mark.parametrize(
    ("seconds", "x"), [(0, 0), (0.01, 0), (0.1, 58.8), (1, 117.7), (120, 240), (9999, 240)]
)
def test_times_stand_on_a_logarithmic_axis(seconds: float, x: float) -> None:
    assert position(seconds) == x


def test_the_axis_has_four_lines() -> None:
    assert [mark.label for mark in axis()] == ["0.1 s", "1 s", "10 s", "1 m"]
    assert [mark.x for mark in axis()] == sorted(mark.x for mark in axis())


def test_a_curve_climbs_to_the_share_that_has_it_and_stays() -> None:
    assert points(drawn([0.1, 1.0], concerned=4)) == [
        (0, 32), (58.8, 32), (58.8, 24), (117.7, 24), (117.7, 16), (240, 16), (240, 32),
    ]  # fmt: skip


def test_a_curve_ends_where_the_present_is() -> None:
    shown = curve(
        applied_s=[0.1], fetched_s=[0.05, 0.1], concerned=2, rejected=1, p50_s=0.1, p99_s=0.1,
        age_s=1.0,
    )  # fmt: skip

    assert shown.end == 117.7
    assert points(shown.applied)[-1] == (117.7, 32)
    assert points(shown.fetched)[-1] == (117.7, 0)
    assert (shown.p50, shown.p99, shown.rejected) == (58.8, 58.8, 16)


def test_nothing_is_drawn_of_nothing() -> None:
    empty = curve(
        applied_s=[], fetched_s=[], concerned=0, rejected=0, p50_s=None, p99_s=None, age_s=300
    )

    assert (empty.applied, empty.fetched, empty.p50, empty.rejected) == ("", "", None, 0)
    assert (empty.end, empty.is_empty) == (WIDTH, True)


@given(st.lists(st.floats(0, 500), min_size=1, max_size=3000))
def test_a_curve_is_a_bounded_staircase_within_its_box(times_s: list[float]) -> None:
    found = points(drawn(times_s))

    assert len(found) < 2 * WIDTH + 6
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in found)
    stairs = found[:-1]
    assert [x for x, _ in stairs] == sorted(x for x, _ in stairs)
    assert stairs[-1][1] == 0


def test_a_journey_ends_at_what_happened_last() -> None:
    landed = journey(fetch_s=0.1, apply_s=1, reject_s=None, waits_s=None)
    waiting = journey(fetch_s=None, apply_s=None, reject_s=None, waits_s=10)

    assert (landed.fetched, landed.applied, landed.end) == (58.8, 117.7, 117.7)
    assert (waiting.end, waiting.waits_from) == (None, 176.5)
