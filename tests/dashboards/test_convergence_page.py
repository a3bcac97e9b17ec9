"""Convergence: drift first, publications as curves, one publication with every instance."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.delivery.models import Acknowledgement
from controlplane.registry.models import Service
from dashboards.presenters import publication, publications
from tests.delivery import rows
from tests.delivery.rows import publication_row

Fleet = dict[str, Service]


def get(client: Client, url: str, status: int = 200) -> str:
    answer = client.get(url)
    assert answer.status_code == status
    return answer.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def instance(name: str, now: datetime, *, sequence: int | None, **fields: Any) -> None:
    given = {"seen_at": now, "first_seen_at": now - timedelta(hours=1)} | fields
    rows.instance(name, sequence=sequence, **given)


def acknowledge(
    name: str, at: datetime, sequence: int = 7, outcome: str = "applied", reason: str = ""
) -> None:
    rows.acknowledge(name, sequence, at=at, outcome=outcome, reason=reason)


def rejecting(name: str, now: datetime, reason: str = "no such field") -> None:
    instance(
        name, now, sequence=6, state="rejected", rejected_etag="7-0-9f3c", reason=reason,
        rejected_at=now - timedelta(seconds=40),
    )  # fmt: skip


def published(now: datetime, *, ago_s: float, applied: int = 3) -> datetime:
    """Publication 7 of checkout, which `applied` instances enforce half a second later."""
    at = now - timedelta(seconds=ago_s)
    publication_row(7, issued_at=at)
    for number in range(applied):
        name = f"checkout-{number}"
        instance(name, now, sequence=7)
        acknowledge(name, at + timedelta(seconds=0.1), outcome="fetched")
        acknowledge(name, at + timedelta(seconds=0.5 + number / 10))
    return at


@pytest.mark.parametrize(
    ("url", "region", "every"),
    [
        ("/convergence/regions/drift", "drift-prod", "every 5s"),
        ("/convergence/regions/publications", "publications-prod", "every 5s"),
    ],
)
def test_each_region_knows_its_id_and_its_refresh_url(
    viewer: Client, fleet: Fleet, url: str, region: str, every: str
) -> None:
    html = get(viewer, url)

    assert f'id="{region}"' in html
    assert f'hx-get="{url}"' in html
    assert every in html
    assert "<html" not in html


def test_the_page_is_in_the_navigation(viewer: Client, fleet: Fleet) -> None:
    html = get(viewer, "/convergence/")

    assert '<a href="/convergence/" aria-current="page">Convergence</a>' in html


def test_without_instances_and_publications_the_page_says_what_to_expect(
    viewer: Client, fleet: Fleet
) -> None:
    text = words(get(viewer, "/convergence/"))

    assert "No instance asks for its policy in prod." in text
    assert "Nothing has been published for a service of prod yet" in text
    assert "live" not in text.split("Convergence")[2].split("instances")[0]  # no age of nothing


def test_when_all_is_well_it_says_so_in_numbers(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300)

    text = words(get(viewer, "/convergence/"))

    assert "Every one of 3 live instances of 1 service enforces what it should" in text
    assert "3 / 3" in text
    assert "● converged" in text


def test_drift_names_service_instance_what_and_since_when(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300)
    rejecting("checkout-8", now)
    instance("checkout-9", now, sequence=5)
    instance("checkout-a", now, sequence=None, etag="deployed by hand")
    instance("checkout-b", now - timedelta(minutes=3), sequence=7)
    instance("newcomer-1", now, sequence=None, etag="", service="newcomer")
    publication_row(3, service="", issued_at=now - timedelta(minutes=5))

    html = get(viewer, "/convergence/regions/drift")
    text = words(html)

    assert "▲ 1 rejected" in text
    assert "checkout-8 rejects #7 and keeps #6: no such field for 40 s" in text
    assert "“deployed by hand”, which was never published here; should be on #7" in text
    assert "checkout-9 is on #5, should be on #7 for 5 m" in text
    assert "checkout-b stopped asking; it was on #7 for 3 m" in text
    assert "newcomer-1 asks for its policy and never says what it enforces" in text
    assert "unregistered: runs on the fleet default" in text
    assert text.index("checkout-8") < text.index("checkout-a") < text.index("checkout-9")
    assert text.index("checkout-9") < text.index("checkout-b") < text.index("newcomer-1")
    assert 'href="/convergence/7/"' in html


def test_a_converging_publication_is_followed_every_second(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=5, applied=2)
    instance("checkout-9", now, sequence=6)

    html = get(viewer, "/convergence/regions/publications")

    assert 'hx-trigger="every 1s,' in html
    assert "◌ converging" in words(html)
    assert "2/3" in html
    assert 'class="future"' in html


def test_a_large_fleet_is_followed_less_often(
    viewer: Client, fleet: Fleet, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publications, "QUICK_UP_TO", 2)
    monkeypatch.setattr(publication, "QUICK_UP_TO", 2)
    published(now, ago_s=5, applied=2)
    instance("checkout-9", now, sequence=6)

    assert "every 5s" in get(viewer, "/convergence/regions/publications")
    assert "every 5s" in get(viewer, "/convergence/7/regions/publication")


def test_a_publication_is_a_curve_with_its_quantiles_in_words(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300)

    html = get(viewer, "/convergence/regions/publications")

    assert "3 of 3 live instances enforce it; half within 0.60 s, 99% within 0.70 s" in html
    assert re.search(r'<path class="applied" d="M0 32L[0-9. L]+Z"/>', html)
    assert html.count('class="p50"') == html.count('class="p99"') == 2  # the curve and the legend
    assert 'hx-trigger="every 5s,' in html


@pytest.mark.parametrize(
    ("ago_s", "rejecting_count", "waiting_count", "pill"),
    [
        (300, 0, 0, "● converged"),
        (300, 1, 0, "▲ rejected by 1"),
        (5, 1, 1, "▲ converging, rejected by 1"),
        (300, 0, 2, "◆ 2 unanswered"),
    ],
)
def test_every_phase_is_a_word_and_a_shape(
    viewer: Client,
    fleet: Fleet,
    now: datetime,
    ago_s: float,
    rejecting_count: int,
    waiting_count: int,
    pill: str,
) -> None:
    published(now, ago_s=ago_s)
    for number in range(rejecting_count):
        rejecting(f"rejecting-{number}", now)
    for number in range(waiting_count):
        instance(f"waiting-{number}", now, sequence=6)

    for url in ("/convergence/", "/convergence/7/"):
        assert pill in words(get(viewer, url))


def test_a_publication_without_a_live_instance_says_so(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300, applied=0)

    assert "○ no live instance" in words(get(viewer, "/convergence/"))
    html = get(viewer, "/convergence/7/")
    text = words(html)
    assert "No live instance: it takes effect when one starts" in text
    assert "No instance lived when it was published, so it spread to none: whoever starts" in text
    assert 'class="curve"' not in html
    assert "No instance has asked for this service's policy since it was published." in text


def test_older_publications_are_a_page_away_and_services_can_be_chosen(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    for sequence in range(1, 15):
        publication_row(sequence, issued_at=now - timedelta(hours=1))
    publication_row(20, service="payments", issued_at=now)

    html = get(viewer, "/convergence/")
    older = re.search(r'id="older" href="([^"]+)"', html)
    assert older is not None
    second = get(viewer, older.group(1).replace("&amp;", "&"))

    assert "#20 payments" in html
    assert "#3 checkout" in second
    assert 'hx-get="/convergence/regions/publications' not in second  # history does not move
    assert "#14 checkout" not in get(viewer, "/convergence/?service=payments")
    assert "search has no publication of its own" in words(
        get(viewer, "/convergence/?service=search")
    )


def test_one_publication_shows_every_instance_from_fetched_to_applied(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    at = published(now, ago_s=60)
    rejecting("checkout-8", now)
    acknowledge(
        "checkout-8", at + timedelta(seconds=0.2), outcome="rejected", reason="no such field"
    )
    instance("checkout-9", now, sequence=6)
    acknowledge("checkout-9", at + timedelta(seconds=0.1), outcome="fetched")
    instance("checkout-a", now - timedelta(seconds=50), sequence=6)

    html = get(viewer, "/convergence/7/")
    text = words(html)

    assert "3 of 5 live instances enforce it." in text
    assert "▲ rejected “no such field”, after 0.2 s" in text
    assert "◐ fetched, not applied" in text
    assert "◌ silent" in text
    assert 'aria-label="fetched after 0.10 s, applied after 0.50 s"' in html
    assert 'aria-label="rejected after 0.20 s"' in html
    assert "Laggards: checkout-9 still waited for, 60 s" in text
    assert "to fetched 4 0.1 s 0.1 s" in text
    assert 'data-final="no"' in html
    rows_text = text.partition("the troubled first")[2]
    named = re.findall(r"checkout-\w", rows_text)
    assert named == [f"checkout-{name}" for name in "8a9210"]


def test_the_region_stops_when_nothing_will_change(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=5)
    url = "/convergence/7/regions/publication"

    assert "hx-get" not in get(viewer, url, status=286)
    instance("checkout-9", now, sequence=6)
    assert 'hx-trigger="every 1s"' in get(viewer, url)


def test_a_rejected_publication_is_followed_until_it_is_replaced(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300)
    rejecting("checkout-8", now)
    url = "/convergence/7/regions/publication"

    assert 'hx-trigger="every 5s"' in get(viewer, url)
    publication_row(8, issued_at=now)
    assert "replaced by #8" in words(get(viewer, url, status=286))


def test_many_instances_come_in_pages(viewer: Client, fleet: Fleet, now: datetime) -> None:
    published(now, ago_s=300, applied=60)

    first = get(viewer, "/convergence/7/")
    last = get(viewer, "/convergence/7/?page=99")

    assert "page 1 of 2" in first
    assert 'id="next-page" href="/convergence/7/?page=2"' in first
    assert "page 2 of 2" in last
    assert first.count('class="journey"') == 50
    assert last.count('class="journey"') == 10


def test_a_page_of_a_fleet_default_or_of_nothing_is_not_found_in_words(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    publication_row(3, service="", issued_at=now)

    assert "each service it changed has a publication of its own" in words(
        get(viewer, "/convergence/3/", status=404)
    )
    assert "prod has no publication 99" in words(get(viewer, "/convergence/99/", status=404))


def test_when_nothing_is_reported_any_more_the_last_picture_is_shown_as_old(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    """Delivery cannot write: that must not look like a fleet that has gone."""
    then = now - timedelta(minutes=12)
    published(then, ago_s=300)

    for url in ("/convergence/", "/convergence/7/"):
        html = get(viewer, url)
        text = words(html)
        assert "Old figures, of 02:02:00 UTC" in text
        assert "delivery cannot write reports, or every instance has stopped" in text
        assert "◆ stale" in text
        assert 'class="old"' in html
        assert "● converged" in text
    assert "hx-get" in get(viewer, "/convergence/7/regions/publication")  # it may come back


def test_reasons_of_clients_are_text_and_never_markup(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    published(now, ago_s=300)
    rejecting("checkout-8", now, reason="<script>alert(1)</script>")

    for url in ("/convergence/", "/convergence/7/"):
        assert "<script>alert" not in get(viewer, url)


@pytest.mark.parametrize("url", ["/convergence/", "/convergence/7/"])
def test_the_page_takes_the_same_queries_however_large_the_fleet(
    viewer: Client, fleet: Fleet, now: datetime, url: str
) -> None:
    published(now, ago_s=300)
    counts = []
    for added in (0, 40):
        for number in range(added):
            instance(f"more-{number:02}", now, sequence=6)
            publication_row(100 + number, service="payments", issued_at=now)
        with CaptureQueriesContext(connection) as captured:
            get(viewer, url)
        counts.append(len(captured))

    assert counts[0] == counts[1] <= 20
    assert Acknowledgement.objects.count() == 6


@pytest.mark.parametrize(
    "url",
    [
        "/convergence/",
        "/convergence/regions/drift",
        "/convergence/regions/publications",
        "/convergence/7/regions/publication",
    ],
)
def test_a_database_that_does_not_answer_is_said_and_regions_keep_what_they_show(
    viewer: Client, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr("dashboards.presenters.reports.read_reporting", away)

    answer = viewer.get(url)

    # htmx swaps no 503: the region stays as it was, under a banner that says since when.
    assert answer.status_code == 503
    assert "The database does not answer." in words(answer.content.decode())


def test_nobody_without_a_session_sees_it(fleet: Fleet) -> None:
    assert Client().get("/convergence/").status_code == 302
    assert Client().get("/convergence/regions/drift").headers["HX-Redirect"].startswith("/login/")
