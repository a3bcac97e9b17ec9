from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.delivery.models import InstanceReport
from controlplane.policies.services import publish_version
from controlplane.registry.models import Instance, Service
from controlplane.slo.domain.objective import Kind
from controlplane.slo.services.objectives import set_objective
from controlplane.telemetry.domain.picture import TenantSignals
from controlplane.telemetry.domain.quantiles import Quantile
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import SourceUnavailable
from tests.access.actors import ADMIN, OPERATOR
from tests.dashboards.pictures import calls, healthy, show, storm
from tests.policies.builders import newest, open_on, publish_on

Fleet = dict[str, Service]
REGIONS = {
    "header": "every 5s",
    "charts": "every 15s",
    "endpoints": "every 5s",
    "dependencies": "every 5s",
    "limits": "every 5s",
    "tenants": "every 5s",
    "instances": "every 5s",
    "objectives": "every 15s",
    "recent": "every 15s",
}
LIMITED = {
    "inbound": {
        "rate": {"per_s": 10, "burst": 5},
        "tenants": {"named": {"acme": {"per_s": 2, "burst": 5}}},
    }
}


def region(client: Client, name: str, query: str = "") -> str:
    answer = client.get(f"/services/checkout/regions/{name}{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize("name", REGIONS)
def test_each_region_knows_its_id_and_its_refresh_url(
    operator: Client, fleet: Fleet, name: str
) -> None:
    html = region(operator, name)

    assert f'id="{name}-checkout"' in html
    assert f'hx-get="/services/checkout/regions/{name}' in html
    assert f'hx-trigger="{REGIONS[name]}' in html
    assert 'hx-swap="outerHTML"' in html
    assert "<html" not in html


@pytest.mark.parametrize("name", REGIONS)
def test_a_region_of_a_service_that_is_not_there_is_not_found(
    operator: Client, fleet: Fleet, name: str
) -> None:
    assert operator.get(f"/services/nobody/regions/{name}").status_code == 404


def test_the_page_holds_every_region_once(operator: Client, fleet: Fleet) -> None:
    html = operator.get("/services/checkout/").content.decode()

    for name in REGIONS:
        assert html.count(f'id="{name}-checkout"') == 1


def test_without_any_figures_every_region_still_draws(operator: Client, fleet: Fleet) -> None:
    assert "No figures." in region(operator, "header")
    assert "Tenants are unknown" in words(region(operator, "tenants"))
    assert "What is refused is unknown" in words(region(operator, "limits"))
    assert "no data" in words(region(operator, "dependencies"))
    assert "Nothing measured in this range" in words(region(operator, "charts"))
    assert "No instance has asked" in words(region(operator, "instances"))
    assert "No objective yet" in words(region(operator, "objectives"))
    assert "Nobody has changed its policy yet" in words(region(operator, "recent"))


def test_charts_say_when_prometheus_does_not_answer(
    operator: Client, fleet: Fleet, source: FakeSource
) -> None:
    source.failure = SourceUnavailable("Prometheus does not answer: connection refused.")

    html = words(region(operator, "charts"))

    assert html.count("Unavailable.") == 4
    assert "connection refused" in html


def charts_of(html: str) -> dict[str, dict[str, object]]:
    found = re.findall(r'<script id="(\w+)" type="application/json">(.*?)</script>', html, re.S)
    return {name: json.loads(text) for name, text in found}


def test_charts_carry_their_figures_as_data_and_mark_every_change(
    operator: Client, fleet: Fleet, source: FakeSource, now: datetime
) -> None:
    source.rows["http_server_request_duration_seconds_count"] = [
        ({"service": "checkout", "http_response_status_code": "200"}, 12.0)
    ]
    publish_on(fleet["checkout"], now - timedelta(minutes=10), {"inbound": {"deadline_ms": 2000}})

    figures = charts_of(region(operator, "charts"))

    assert figures
    figure = json.dumps(figures["rate"])
    assert "v1 published" in figure
    assert "2,000 ms" in figure
    assert "token:accent" in figure
    assert "<script" not in figure


def test_what_people_write_is_escaped_in_charts(
    operator: Client, fleet: Fleet, source: FakeSource, now: datetime
) -> None:
    source.rows["http_server_request_duration_seconds_count"] = [
        ({"service": "checkout", "http_response_status_code": "200"}, 12.0)
    ]
    publish_version(
        actor=OPERATOR, service=fleet["checkout"], document={"inbound": {"deadline_ms": 2000}},
        reason='</script><a href="javascript:alert(1)">x</a>', now=now - timedelta(minutes=1),
    )  # fmt: skip

    figure = json.dumps(charts_of(region(operator, "charts"))["rate"])

    assert "<a href" not in figure
    assert "&lt;a href" in figure


@pytest.mark.parametrize("asked", ["15m", "1h", "6h", "24h"])
def test_the_range_is_in_the_url(operator: Client, fleet: Fleet, asked: str) -> None:
    html = region(operator, "charts", f"?range={asked}")

    assert f"regions/charts?range={asked}" in html
    assert re.search(rf'id="range-{asked}"[^>]*aria-current="true"', html)


def test_an_unknown_range_or_endpoint_falls_back(operator: Client, fleet: Fleet) -> None:
    html = region(operator, "charts", "?range=99y&endpoint=DELETE+/all")

    assert "regions/charts?range=1h" in html
    assert "endpoint=DELETE" not in html


@pytest.mark.parametrize("query", ["", "?endpoint=POST+/orders"])
def test_what_lies_beyond_the_last_bucket_is_at_least_its_bound_in_charts_too(
    operator: Client, fleet: Fleet, source: FakeSource, query: str
) -> None:
    route = {"service": "checkout", "http_request_method": "POST", "http_route": "/orders"}
    source.rows["http_server_request_duration_seconds_bucket"] = [
        (route | {"le": "0.1"}, 9.0),
        (route | {"le": "10.0"}, 9.6),
        (route | {"le": "+Inf"}, 10.0),
    ]

    html = region(operator, "charts", query)

    assert "p99 ≥ 10 s" in words(html)
    figure: Any = charts_of(html)["duration"]
    (p99,) = [each for each in figure["data"] if each["name"] == "p99"]
    assert set(p99["customdata"]) == {"≥ "}
    assert p99["hovertemplate"].startswith("%{customdata}%{y:")


def test_an_endpoint_can_be_charted_alone(operator: Client, fleet: Fleet) -> None:
    html = region(operator, "charts", "?endpoint=POST+/orders")

    assert "endpoint=POST+%2Forders" in html


def test_an_open_breaker_is_named_with_its_thresholds(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {"checkout": healthy(dependencies={"payments": storm(), "mailer": calls()})})

    text = words(region(operator, "dependencies"))

    assert "▲ open on 2 of 3" in text
    assert "71%" in text
    assert "2.31×" in text
    assert "mailer" in text


def test_failures_are_split_by_what_went_wrong_the_commonest_first(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    failing = calls(
        failure_ratio=0.34, failures={"connect_error": 0.02, "error": 0.01, "timeout": 0.31}
    )
    show(now, {"checkout": healthy(dependencies={"payments": failing, "mailer": calls()})})

    text = words(region(operator, "dependencies"))

    assert "time-outs 31% · connection errors 2.0% · error statuses 1.0%" in text
    assert text.count("time-outs") == 1, "mailer does not fail"


@pytest.mark.parametrize(("p95_s", "is_said"), [(0.99, False), (1.2, True)])
def test_an_attempt_timeout_below_p95_is_said(
    operator: Client, fleet: Fleet, now: datetime, p95_s: float, is_said: bool
) -> None:
    show(now, {"checkout": healthy(dependencies={"payments": calls(p95=Quantile(p95_s))})})

    text = words(region(operator, "dependencies"))

    assert ("the attempt timeout of 1,000 ms lies below p95" in text) is is_said


def test_limits_are_compared_with_all_instances_together(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, LIMITED)
    show(now, {"checkout": healthy(rate_per_s=29.0, rejected_per_s={"tenant_rate": 0.4})})

    text = words(region(operator, "limits"))

    assert "per instance × 3 instances" in text
    assert "29 /s 10 /s 30 /s" in text
    assert "Refused: 0.4 /s (tenant limit)" in text


def test_a_hot_tenant_is_named_with_its_limit(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, LIMITED)
    tenants = {"acme": TenantSignals(6.0, 0.09), "globex": TenantSignals(2.0, 0.0)}
    show(now, {"checkout": healthy(rate_per_s=10.0, tenants=tenants)})

    text = words(region(operator, "tenants"))

    assert re.search(r"acme ◆ hot .*60% .*2\.0 /s .*9\.0%", text)
    assert re.search(r"globex .*20% none", text)


@pytest.mark.parametrize(
    ("acme", "globex", "hot"),
    [
        ((6.0, 0.0), (2.0, 0.0), None),  # large, and within its limit
        ((6.0, 0.01), (2.0, 0.0), None),  # half a percent of all requests singles nobody out
        ((6.0, 0.09), (2.0, 0.5), "globex"),  # the smaller one is refused more
        ((6.0, 0.09), (2.0, 0.0), "acme"),
    ],
)
def test_a_tenant_is_hot_by_its_share_of_what_is_refused(
    operator: Client,
    fleet: Fleet,
    now: datetime,
    acme: tuple[float, float],
    globex: tuple[float, float],
    hot: str | None,
) -> None:
    tenants = {"acme": TenantSignals(*acme), "globex": TenantSignals(*globex)}
    show(now, {"checkout": healthy(rate_per_s=10.0, tenants=tenants)})

    text = words(region(operator, "tenants"))

    assert re.findall(r"(\w+) ◆ hot", text) == ([] if hot is None else [hot])


def test_an_objective_says_its_own_window(operator: Client, fleet: Fleet, now: datetime) -> None:
    set_objective(
        actor=ADMIN, service=fleet["checkout"], kind=Kind.AVAILABILITY, target=0.995,
        window_days=7, now=now,
    )  # fmt: skip

    text = words(region(operator, "objectives"))

    assert "over nothing yet of 7 days" in text
    assert "30 days" not in text


def test_an_instance_that_rejected_its_policy_comes_first_with_the_reason(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, LIMITED)
    for number, state in ((1, "applied"), (2, "rejected")):
        instance = Instance.objects.create(
            environment="prod", service_slug="checkout", instance_id=f"checkout-{number}",
            first_seen_at=now, last_seen_at=now,
        )  # fmt: skip
        InstanceReport.objects.create(
            instance=instance, sequence=newest().sequence, state=state, etag="x",
            reason="unknown window kind" if state == "rejected" else "",
        )  # fmt: skip

    text = words(region(operator, "instances"))

    assert text.index("checkout-2") < text.index("checkout-1")
    assert "▲ rejected unknown window kind" in text
    assert "● current" in text


def test_the_shed_control_leads_to_tune_with_the_change_filled_in(
    operator: Client, fleet: Fleet
) -> None:
    html = region(operator, "header")

    assert 'href="/services/checkout/tune/?section=shedding&amp;inbound.shedding.level=2"' in html


def test_a_viewer_reads_why_controls_are_disabled(viewer: Client, fleet: Fleet) -> None:
    html = region(viewer, "header")

    assert "inbound.shedding.level=2" not in html
    assert "You can look but not change: viewer." in html


def test_live_overrides_are_in_the_header_with_the_time_left(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, minutes=18)

    assert "override · reverts in 18 m" in words(region(operator, "header"))


def test_the_page_makes_a_bounded_number_of_queries(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    for minute in range(6):
        open_on(fleet["checkout"], now - timedelta(minutes=minute))

    with CaptureQueriesContext(connection) as captured:
        operator.get("/services/checkout/")

    assert len(captured) <= 110


@pytest.mark.parametrize(
    ("rejected_per_s", "would_reject_per_s", "said"),
    [
        ({}, {}, "What is refused is not measured."),
        ({"rate": 0.0, "shed": 0.0}, {"rate": 0.0}, "Nothing is refused."),
        ({"rate": 0.0, "shed": 2.5}, {}, "Refused: 2.5 /s (shed)"),
        ({"rate": 1.0}, {"rate": 3.0}, "would refuse 3.0 /s (shadow)"),
    ],
    ids=["not measured", "nothing", "shed", "shadow"],
)
def test_refusals_are_named_when_they_happen_and_never_listed_as_zeros(
    operator: Client,
    fleet: Fleet,
    now: datetime,
    rejected_per_s: dict[str, float],
    would_reject_per_s: dict[str, float],
    said: str,
) -> None:
    figures = healthy(rejected_per_s=rejected_per_s, would_reject_per_s=would_reject_per_s)
    show(now, {"checkout": figures})

    assert said in words(region(operator, "limits"))
