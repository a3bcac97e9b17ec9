from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.models import Team
from controlplane.delivery.models import InstanceReport
from controlplane.registry.models import Environment, Instance, Service
from controlplane.telemetry.domain.quantiles import Quantile
from tests.dashboards.pictures import calls, healthy, show, storm
from tests.delivery.rows import publication_row
from tests.policies.builders import open_on, publish_on, shed
from tests.slo.test_evaluation import add_slices

Fleet = dict[str, Service]


def page(client: Client, url: str = "/") -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def order(html: str) -> list[str]:
    return re.findall(r'data-key="([^"]+)"', html)


def row(html: str, slug: str) -> str:
    found = re.search(rf'<tr role="row" data-key="{slug}">.*?</tr>', html, re.S)
    assert found is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found.group(0)))


def test_the_region_knows_its_id_and_its_refresh_url(operator: Client, fleet: Fleet) -> None:
    html = page(operator, "/?sort=name&q=check")

    assert 'id="fleet-prod"' in html
    assert 'hx-get="/regions/fleet?sort=name&amp;q=check"' in html
    region = page(operator, "/regions/fleet?sort=name&q=check")
    assert region.count('id="fleet-prod"') == 1
    assert "<html" not in region


def test_a_healthy_service_reads_healthy(operator: Client, fleet: Fleet, now: datetime) -> None:
    show(now, {"checkout": healthy(), "payments": healthy()})

    html = page(operator)

    assert "● healthy" in row(html, "checkout")
    assert "● live 2 s ago" in re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


@pytest.mark.parametrize("url", ["/", "/services/checkout/", "/services/checkout/tune/"])
def test_a_query_without_an_answer_is_named_where_its_figures_would_be(
    operator: Client, fleet: Fleet, now: datetime, url: str
) -> None:
    problem = "latency: Prometheus gave a query up (timeout): <slow>"
    show(now, {"checkout": healthy()}, problems=(problem,))

    html = page(operator, url)

    assert "Some figures are missing or partial." in html
    assert "latency: Prometheus gave a query up (timeout): &lt;slow&gt;" in html


def test_a_burn_whose_errors_have_stopped_is_a_recovery_and_what_fails_now_comes_first(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    add_slices(fleet["checkout"], now, minutes=60, good=50.0, total=100.0)
    history = (0.0,) * 30 + (0.5,) * 6 + (0.0,) * 4
    over = healthy(error_ratio=0.0, error_history=history)
    show(now, {"checkout": over, "payments": healthy(error_ratio=0.2)})

    html = page(operator)

    # Four points of 30 s without errors, up to 2 s ago.
    stopped = now - timedelta(seconds=2 + 3 * 30)
    assert f"◆ recovering, errors stopped {stopped:%H:%M}" in row(html, "checkout")
    assert order(html)[:2] == ["payments", "checkout"]


def test_a_burn_that_goes_on_is_red(operator: Client, fleet: Fleet, now: datetime) -> None:
    add_slices(fleet["checkout"], now, minutes=60, good=50.0, total=100.0)
    show(now, {"checkout": healthy(error_ratio=0.4), "payments": healthy(error_ratio=0.2)})

    html = page(operator)

    assert "▲ burning" in row(html, "checkout")
    assert order(html)[0] == "checkout"


def test_the_attempts_tile_shows_the_worst_pair(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    calm = calls(rate_per_s=100.0, attempts_per_request=0.98)
    stormy = calls(rate_per_s=5.0, attempts_per_request=2.1)
    idle = calls(rate_per_s=0.001, attempts_per_request=9.0)
    show(
        now,
        {
            "checkout": healthy(dependencies={"payments": stormy, "fraud": idle}),
            "payments": healthy(dependencies={"ledger": calm}),
        },
    )

    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page(operator)))

    assert "attempts per request, worst 2.10× checkout → payments" in text


def test_a_retry_storm_names_its_dependency_and_comes_first(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {
        "checkout": healthy(dependencies={"payments": storm()}),
        "payments": healthy(attempts_received_per_request=1.4),
    })  # fmt: skip

    html = page(operator, "/")

    assert order(html)[0] == "checkout"
    assert "▲ retry storm → payments 2.31×" in row(html, "checkout")
    assert "breaker open: payments" in row(html, "checkout")
    assert "receives 1.40×" in row(html, "payments")


def test_missing_figures_are_a_dash_and_never_zero(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {"checkout": healthy()})

    text = row(page(operator), "payments")

    assert "◌ no data" in text
    assert "—" in text
    assert "0%" not in text


def test_a_quantile_in_the_last_bucket_says_at_least(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {"checkout": healthy(p99=Quantile(10.0, capped=True))})

    assert "≥ 10 s" in row(page(operator), "checkout")


def test_an_idle_service_has_no_error_ratio(operator: Client, fleet: Fleet, now: datetime) -> None:
    show(now, {"checkout": healthy(rate_per_s=0.0, error_ratio=None)})

    assert "○ idle" in row(page(operator), "checkout")


def test_an_old_picture_is_stale_and_says_why(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {"checkout": healthy()}, age_s=120, failing="Connection refused.")

    html = page(operator)

    assert "Old figures" in html
    assert "Prometheus has not answered since" in html
    assert "◌ stale" in row(html, "checkout")


def test_without_a_picture_the_page_says_what_failed_and_still_lists_services(
    operator: Client, fleet: Fleet
) -> None:
    html = page(operator)

    assert "No figures." in html
    assert order(html) == ["checkout", "payments"]


def test_an_empty_fleet_says_what_to_do(operator: Client, prod: Environment) -> None:
    assert "No service is registered in prod yet" in page(operator)


def test_a_live_override_shows_its_state_and_its_time_left(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now - timedelta(hours=1), {"inbound": {"deadline_ms": 2000}})
    open_on(fleet["checkout"], now, shed(2), minutes=18)
    show(now, {"checkout": healthy()})

    text = row(page(operator), "checkout")

    assert "▽ shedding L2" in text
    assert "v1" in text
    assert "override 18 m" in text


def test_an_unregistered_service_is_listed_from_its_instances(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publication_row(1, service="", issued_at=now)
    instance = Instance.objects.create(
        environment="prod", service_slug="newcomer", instance_id="newcomer-1",
        first_seen_at=now, last_seen_at=now,
    )  # fmt: skip
    instance_report(instance, 1)

    text = row(page(operator), "newcomer")

    assert "unregistered" in text
    assert "1/1" in text


def instance_report(instance: Instance, sequence: int) -> None:
    InstanceReport.objects.create(
        instance=instance, etag=f"{sequence}-0-x", sequence=sequence, state="applied"
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [("CHECK", ["checkout"]), ("payments", ["checkout", "payments"]), ("nothing", [])],
)
def test_search_matches_name_and_team(
    operator: Client, fleet: Fleet, query: str, found: list[str]
) -> None:
    assert order(page(operator, f"/?q={query}")) == found


def test_a_search_in_place_puts_its_words_into_the_page_url(operator: Client, fleet: Fleet) -> None:
    answer = operator.get("/regions/fleet?q=check", headers={"HX-Trigger-Name": "q"})

    assert answer["HX-Replace-Url"] == "/?q=check"
    assert "HX-Replace-Url" not in operator.get("/regions/fleet?q=check")


def test_the_search_form_goes_to_a_service_of_that_name(operator: Client, fleet: Fleet) -> None:
    assert operator.get("/search/?q=Checkout")["Location"] == "/services/checkout/"
    assert operator.get("/search/?q=check")["Location"] == "/?q=check"


def test_rows_keep_their_order_while_somebody_reads_them(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    show(now, {"checkout": healthy(), "payments": healthy(error_ratio=0.2)})

    assert order(page(operator)) == ["payments", "checkout"]
    held = page(operator, "/regions/fleet?hold=checkout,payments")
    assert order(held) == ["checkout", "payments"]
    assert "order held while you read" in held


def test_the_number_of_queries_does_not_grow_with_the_fleet(
    operator: Client, fleet: Fleet, team: Team, now: datetime
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            page(operator, "/regions/fleet")
        return len(captured)

    few = queries()
    for number in range(20):
        service = Service.objects.create(
            environment=fleet["checkout"].environment, slug=f"more-{number}", team=team,
            registered_at=now,
        )  # fmt: skip
        if number < 3:
            open_on(service, now)

    assert queries() == few <= 24


def test_a_large_fleet_comes_in_pages_with_the_worst_on_the_first(
    operator: Client, fleet: Fleet, team: Team, now: datetime
) -> None:
    environment = fleet["checkout"].environment
    Service.objects.bulk_create(
        Service(environment=environment, slug=f"a-{number:03}", team=team, registered_at=now)
        for number in range(120)
    )
    show(now, {"payments": healthy(error_ratio=0.2), "checkout": healthy()})

    first, second = page(operator), page(operator, "/?page=2")

    assert order(first)[0] == "payments"
    assert (len(order(first)), len(order(second))) == (100, 22)
    assert not set(order(first)) & set(order(second))
    assert "page 2 of 2" in second
    assert 'hx-get="/regions/fleet?sort=attention&amp;page=2"' in second
    assert order(page(operator, "/?page=99")) == order(second)


def test_another_environment_is_in_every_link(operator: Client, fleet: Fleet) -> None:
    Environment.objects.create(slug="staging", name="Staging")

    html = page(operator, "/?environment=staging")

    assert 'hx-get="/regions/fleet?environment=staging&amp;sort=attention"' in html
    assert 'href="/changes/?environment=staging"' in html
    assert operator.get("/?environment=nowhere").status_code == 404


def test_somebody_without_a_session_is_sent_to_sign_in(client: Client, fleet: Fleet) -> None:
    assert client.get("/?q=a")["Location"] == "/login/?next=/%3Fq%3Da"
    region = client.get("/regions/fleet")
    assert region["HX-Redirect"] == "/login/?next=/"
