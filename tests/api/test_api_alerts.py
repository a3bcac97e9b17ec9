"""Alerts over HTTP: what fires, and which channel knows."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from tests.api.client import ApiClient
from tests.notifications.builders import Recorder, content, fire, send


def body(client: ApiClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_an_alert_comes_with_what_each_channel_was_told(viewer: ApiClient, now: datetime) -> None:
    fire(now, content(now, reason="no such field"))
    send(now, Recorder())

    (alert,) = body(viewer, "/alerts")["alerts"]

    assert alert["labels"]["service"] == "checkout"
    assert alert["annotations"]["reason"] == "no such field"
    assert (alert["resolved_at"], alert["url"]) == (None, "http://tidegate.test/convergence/7/")
    told = {notice["channel"]: notice["told"] for notice in alert["notices"]}
    assert told == {"alertmanager": "", "webhook": "firing"}


def test_alerts_can_be_chosen_and_page_back(viewer: ApiClient, now: datetime) -> None:
    fire(now, *(content(now, f"service-{number}") for number in range(5)))
    fire(now + timedelta(seconds=5), content(now, "service-4"))

    first = body(viewer, "/alerts?state=resolved&limit=3&environment=prod")
    second = body(viewer, f"/alerts?state=resolved&limit=3&cursor={first['next_cursor']}")

    assert (len(first["alerts"]), len(second["alerts"])) == (3, 1)
    assert second["next_cursor"] is None
    (firing,) = body(viewer, "/alerts?state=firing")["alerts"]
    assert firing["labels"]["service"] == "service-4"
    assert body(viewer, "/alerts?environment=staging")["alerts"] == []


def test_an_unknown_state_is_refused_by_name(viewer: ApiClient) -> None:
    answer = viewer.get("/alerts?state=odd")

    assert (answer.status_code, answer.json()["field"]) == (422, "state")
    assert answer.json()["detail"] == "state must be one of: firing, resolved"


def test_nobody_reads_alerts_without_signing_in(db: None) -> None:
    assert Client().get("/api/v1/alerts").status_code == 401


@pytest.mark.parametrize("count", [2, 40])
def test_the_list_takes_four_queries(
    viewer: ApiClient, now: datetime, count: int, django_assert_num_queries: Any
) -> None:
    fire(now, *(content(now, f"service-{number}") for number in range(count)))

    with django_assert_num_queries(4):  # two are the token and its user's roles
        assert viewer.get("/alerts?limit=200").status_code == 200
