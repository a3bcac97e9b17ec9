from __future__ import annotations

from datetime import UTC, datetime

import pytest

from controlplane.telemetry.domain.quantiles import Quantile
from dashboards.charts.geometry import Slice, bar, spark_path, timeline
from dashboards.templatetags import figures


@pytest.mark.parametrize(
    ("say", "value", "text"),
    [
        (figures.percent, None, "—"),
        (figures.percent, 0, "0%"),
        (figures.percent, 0.0004, "<0.1%"),
        (figures.percent, 0.061, "6.1%"),
        (figures.percent, 0.54, "54%"),
        (figures.percent, -0.31, "-31%"),
        (figures.percent_exact, 0.9995, "99.95%"),
        (figures.rate, None, "—"),
        (figures.rate, 0, "0"),
        (figures.rate, 0.02, "<0.1"),
        (figures.rate, 0.42, "0.4"),
        (figures.rate, 412.3, "412"),
        (figures.rate, 5800, "5.8k"),
        (figures.latency, 0.0004, "<1 ms"),
        (figures.latency, 0.84, "840 ms"),
        (figures.latency, 2.9, "2.9 s"),
        (figures.quantile, Quantile(10.0, capped=True), "≥ 10 s"),
        (figures.quantile, Quantile(0.84), "840 ms"),
        (figures.times, 2.314, "2.31×"),
        (figures.factor, 14.2, "14.2×"),
        (figures.count, 18204, "18,204"),
        (figures.span, 20, "20 s"),
        (figures.span, 1080, "18 m"),
        (figures.span, 7440, "2 h 4 m"),
        (figures.span, 3600, "1 h"),
        (figures.span, 90000, "1 d 1 h"),
        (figures.span, -3, "0 s"),
        (figures.brief_span, 0.04, "0.04 s"),
        (figures.brief_span, 0.93, "0.9 s"),
    ],
)
def test_a_figure_reads_as_people_say_it(say: object, value: object, text: str) -> None:
    assert say(value) == text  # type: ignore[operator]


def test_a_time_carries_its_date_for_machines() -> None:
    at = datetime(2026, 11, 2, 2, 14, 7, tzinfo=UTC)

    assert figures.clock(at) == (
        '<time datetime="2026-11-02T02:14:07Z" title="2026-11-02 02:14:07 UTC">02:14:07</time>'
    )
    assert "2 Nov 02:14" in figures.moment(at)
    assert figures.clock(None) == "—"


def test_a_sparkline_keeps_its_gaps() -> None:
    assert spark_path((1.0, 1.0, None, 1.0, 1.0), least_top=1.0).count("M") == 2


def test_a_sparkline_of_too_little_is_empty() -> None:
    assert spark_path((), least_top=1.0) == ""
    assert spark_path((None, 1.0), least_top=1.0) == ""


def test_noise_near_zero_stays_low_in_a_sparkline() -> None:
    path = spark_path((0.0, 0.0002, 0.0), least_top=0.02)

    assert path == "M0.0 20.0L42.0 19.8L84.0 20.0"


def test_a_timeline_merges_equal_states_and_leaves_gaps_out() -> None:
    points = [(10.0, "closed"), (20.0, "closed"), (30.0, None), (40.0, "open")]

    slices = timeline(points, start=0, end=40, step_s=10)

    assert slices == (Slice(0, 50.0, "closed"), Slice(75.0, 25.0, "open"))


@pytest.mark.parametrize(("share", "width"), [(0.5, 50.0), (-0.2, 0.0), (1.7, 100.0)])
def test_a_bar_stays_in_its_track(share: float, width: float) -> None:
    filled = bar(share)

    assert filled is not None
    assert filled.width == width


def test_a_bar_of_something_unknown_is_not_drawn() -> None:
    assert bar(None) is None
