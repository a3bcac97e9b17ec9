"""Propagation and drift over HTTP."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client

from controlplane.kernel.clock import utc_now
from controlplane.registry.models import Environment
from tests.api.client import ApiClient
from tests.delivery.rows import acknowledge, instance, publication_row

PATHS = ("/publications", "/publications/7", "/publications/7/instances", "/drift")


def landed(count: int = 3) -> None:
    """Publication 7 of five minutes ago: one instance rejects it, one is behind, others have it."""
    now = utc_now()
    issued_at = now - timedelta(minutes=5)
    publication_row(7, issued_at=issued_at)
    for number in range(count):
        name = f"checkout-{number}"
        instance(name, sequence=7, seen_at=now, first_seen_at=now - timedelta(hours=1))
        acknowledge(name, 7, at=issued_at + timedelta(seconds=0.1), outcome="fetched")
        acknowledge(name, 7, at=issued_at + timedelta(seconds=0.5))
    instance("late", sequence=6, seen_at=now, first_seen_at=now - timedelta(hours=1))
    instance(
        "refusing", sequence=6, state="rejected", rejected_etag="7-0-9f3c", reason="no such field",
        seen_at=now, first_seen_at=now - timedelta(hours=1),
    )  # fmt: skip
    acknowledge(
        "refusing", 7, at=issued_at + timedelta(seconds=0.2), outcome="rejected",
        reason="no such field",
    )  # fmt: skip


def body(client: ApiClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_publications_come_with_their_propagation(viewer: ApiClient, prod: Environment) -> None:
    landed()

    (found,) = body(viewer, "/publications")["publications"]

    assert (found["sequence"], found["service"], found["phase"]) == (7, "checkout", "rejected")
    spread = found["convergence"]
    assert (spread["live"], spread["fetched"], spread["applied"]) == (5, 4, 3)
    assert spread["rejected"] == [{"instance_id": "refusing", "reason": "no such field"}]
    assert spread["silent"] == ["late"]
    assert (spread["fetch"]["p99_s"], spread["apply"]["p99_s"], spread["p99_s"]) == (0.1, 0.5, 0.5)
    assert spread["laggards"][0]["instance_id"] == "late"
    assert 300 <= spread["laggards"][0]["late_s"] < 360
    alone = body(viewer, "/publications/7")
    assert alone["phase"] == "rejected"
    assert alone["convergence"]["fetch"] == spread["fetch"]


def test_publications_page_back_by_cursor(viewer: ApiClient, prod: Environment) -> None:
    for sequence in range(1, 6):
        publication_row(sequence)

    first = body(viewer, "/publications?limit=3")
    second = body(viewer, f"/publications?limit=3&cursor={first['next_cursor']}")

    assert [each["sequence"] for each in first["publications"]] == [5, 4, 3]
    assert [each["sequence"] for each in second["publications"]] == [2, 1]
    assert second["next_cursor"] is None
    assert body(viewer, "/publications?service=payments")["publications"] == []


def test_every_instance_says_when_it_fetched_and_applied(
    viewer: ApiClient, prod: Environment
) -> None:
    landed()

    first = body(viewer, "/publications/7/instances?limit=3")
    second = body(viewer, f"/publications/7/instances?limit=3&cursor={first['next_cursor']}")
    rows = first["instances"] + second["instances"]

    assert [(row["instance_id"], row["progress"]) for row in rows] == [
        ("checkout-0", "applied"),
        ("checkout-1", "applied"),
        ("checkout-2", "applied"),
        ("late", "waiting"),
        ("refusing", "rejected"),
    ]
    assert (rows[0]["fetch_s"], rows[0]["apply_s"], rows[0]["enforces"]) == (0.1, 0.5, 7)
    assert (rows[4]["reject_s"], rows[4]["reason"]) == (0.2, "no such field")
    only = body(viewer, "/publications/7/instances?progress=rejected")["instances"]
    assert [row["instance_id"] for row in only] == ["refusing"]


def test_drift_is_listed_over_the_fleet_with_how_late(viewer: ApiClient, prod: Environment) -> None:
    landed()

    first = body(viewer, "/drift?limit=1")
    second = body(viewer, f"/drift?limit=1&cursor={first['next_cursor']}")

    assert (first["live"], first["current"], first["drifting"], first["silent"]) == (5, 3, 2, 0)
    late, refusing = first["instances"][0], second["instances"][0]
    assert (late["instance_id"], late["kind"], late["enforces"]) == ("late", "behind", 6)
    assert (late["expected"], late["service"]) == (7, "checkout")
    assert 300 <= late["late_s"] < 360
    assert (refusing["kind"], refusing["reason"]) == ("rejected", "no such field")
    assert second["next_cursor"] is None
    assert [each["kind"] for each in body(viewer, "/drift?kind=behind")["instances"]] == ["behind"]
    assert body(viewer, "/drift?service=payments")["live"] == 0


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/publications/8", 404, "not-found", "sequence"),
        ("/publications/99999999999999999999", 404, "not-found", "sequence"),
        ("/publications/8/instances", 404, "not-found", "sequence"),
        ("/publications/7/instances?progress=done", 422, "invalid-input", "progress"),
        ("/publications?cursor=x", 422, "invalid-input", "cursor"),
        ("/drift?kind=odd", 422, "invalid-input", "kind"),
        ("/drift?limit=0", 422, "invalid-input", "limit"),
        ("/drift?environment=nowhere", 404, "not-found", "environment"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(
    viewer: ApiClient, prod: Environment, path: str, status: int, code: str, field: str
) -> None:
    landed()

    answer = viewer.get(path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["field"] == field


def test_nobody_reads_it_without_signing_in(prod: Environment) -> None:
    for path in PATHS:
        assert Client().get(f"/api/v1{path}").status_code == 401


@pytest.mark.parametrize("count", [2, 40])
def test_each_address_takes_the_same_queries_however_many_instances(
    viewer: ApiClient, prod: Environment, count: int, django_assert_num_queries: Any
) -> None:
    landed(count)

    # Two of each are the token and its user's roles, one is the environment.
    queries = dict.fromkeys(PATHS, 7) | {"/drift": 5}
    for path in PATHS:
        with django_assert_num_queries(queries[path]):
            assert viewer.get(path).status_code == 200
