from __future__ import annotations

import pytest

from controlplane.telemetry.domain.picture import (
    DependencySignals,
    EndpointSignals,
    FleetPicture,
    ServiceSignals,
    TenantSignals,
    picture_from_json,
    picture_to_json,
)
from controlplane.telemetry.domain.quantiles import Quantile

PICTURE = FleetPicture(
    environment="prod",
    taken_at=1793585647.0,
    collected_at=1793585649.25,
    interval_s=5,
    window_s=60,
    services={
        "checkout": ServiceSignals(
            rate_per_s=12.5,
            error_ratio=0.0,
            p99=Quantile(10.0, capped=True),
            p50=Quantile(0.025),
            rejected_per_s={"shed": 1.5},
            endpoints={"POST /orders": EndpointSignals(rate_per_s=12.5, p95=Quantile(0.2))},
            dependencies={"payments": DependencySignals(breaker_states={"open": 2})},
            tenants={"acme": TenantSignals(rate_per_s=3.0, limited_ratio=0.25)},
            instances_ready=2,
            rate_history=(1.0, None, 0.0),
        ),
        "silent": ServiceSignals(),
    },
    queries=20,
    query_seconds=0.125,
    problems=("latency: too many samples",),
)


def test_a_picture_survives_the_cache_unchanged() -> None:
    assert picture_from_json(picture_to_json(PICTURE)) == PICTURE


def test_what_is_missing_takes_no_room_and_zero_is_kept() -> None:
    text = picture_to_json(PICTURE).decode()

    assert '"silent":{}' in text
    assert '"error_ratio":0.0' in text
    assert "attempts_per_request" not in text


def test_a_service_without_any_figure_has_no_data() -> None:
    assert not PICTURE.services["silent"].has_data
    assert PICTURE.services["checkout"].has_data


def test_a_field_of_a_newer_release_is_left_out() -> None:
    body = picture_to_json(PICTURE).replace(b'{"environment"', b'{"moon_phase":3,"environment"')

    assert picture_from_json(body) == PICTURE


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"services":3}', b"\xff"])
def test_what_is_not_a_picture_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - orjson's words and ours
        picture_from_json(body)
