"""A rejected policy stands over Fleet, Service and Tune, in words, until it is over."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.test import Client

from controlplane.registry.models import Service
from tests.delivery.rows import instance, publication_row

Fleet = dict[str, Service]
URLS = ("/", "/services/checkout/", "/services/checkout/tune/")


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def get(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def reject(now: datetime, name: str, *, reason: str = "no such field") -> None:
    instance(
        name, sequence=6, state="rejected", rejected_etag="7-0-9f3c", reason=reason,
        rejected_at=now - timedelta(seconds=40), seen_at=now,
        first_seen_at=now - timedelta(hours=1),
    )  # fmt: skip


@pytest.mark.parametrize("url", URLS)
def test_the_banner_names_service_count_publication_and_reason(
    viewer: Client, fleet: Fleet, now: datetime, url: str
) -> None:
    publication_row(7, issued_at=now - timedelta(minutes=5))
    reject(now, "checkout-1")
    reject(now, "checkout-2")
    instance("checkout-3", sequence=7, seen_at=now, first_seen_at=now - timedelta(hours=1))

    html = get(viewer, url)

    assert "checkout: 2 of 3 live instances reject policy #7 for 40 s: no such field." in re.sub(
        r" (?=[:,.])", "", words(html)
    )
    assert 'href="/convergence/7/"' in html
    assert '<span aria-hidden="true">▲</span>' in html


@pytest.mark.parametrize("url", URLS)
def test_without_a_rejection_it_is_there_hidden_and_keeps_looking(
    viewer: Client, fleet: Fleet, url: str
) -> None:
    html = get(viewer, url)

    assert re.search(r'<section id="rejections-\w+"[^>]* hidden\s+hx-get=', html)
    assert "reject policy" not in words(html)


def test_a_service_s_banner_is_about_that_service_alone(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    publication_row(7, issued_at=now - timedelta(minutes=5))
    reject(now, "checkout-1")

    assert "rejects policy" in words(get(viewer, "/"))
    assert "rejects policy" not in words(get(viewer, "/services/payments/"))
    region = get(viewer, "/convergence/regions/rejections?service=checkout")
    assert 'id="rejections-checkout"' in region
    assert 'hx-get="/convergence/regions/rejections?service=checkout"' in region


def test_many_reasons_are_bounded_and_lead_to_all(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    publication_row(7, issued_at=now - timedelta(minutes=5))
    for number in range(8):
        reject(now, f"checkout-{number}", reason=f"reason {number} <b>")

    html = get(viewer, "/convergence/regions/rejections")

    assert html.count("notice crit") == 5
    assert "and 3 more" in words(html)
    assert "&lt;b&gt;" in html
