"""A rejected policy alerts once per service, publication and reason, until nobody rejects it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.urls import resolve
from redis.exceptions import ConnectionError as ValkeyAway

from controlplane.delivery.domain.alerting import rejection_annotations
from controlplane.delivery.domain.drift import Rejection
from controlplane.delivery.models import InstanceReport
from controlplane.delivery.services import instruments, watch
from controlplane.delivery.services.reports import write_reports
from controlplane.delivery.services.watch import DriftFigures, watch_rejections
from controlplane.notifications.models import Alert
from controlplane.registry.models import Instance, Service
from tests.delivery.builders import NOW, answer, make_plane, snapshot
from tests.delivery.rows import instance, publication_row


@pytest.fixture(autouse=True)
def nothing_is_cached() -> None:
    cache.clear()


def refuse(name: str, *, reason: str = "no such field", **fields: Any) -> None:
    given: dict[str, Any] = {
        "sequence": 6, "state": "rejected", "rejected_etag": "7-0-9f3c", "reason": reason,
        "rejected_at": NOW - timedelta(seconds=20),
    }  # fmt: skip
    instance(name, **(given | fields))


def open_alerts() -> list[Alert]:
    return list(Alert.objects.filter(resolved_at=None).order_by("pk"))


def figures() -> dict[str, float]:
    return {
        ".".join([sample.name.removeprefix("tidegate_delivery_"), *sample.labels.values()]): (
            sample.value
        )
        for family in DriftFigures().collect()
        for sample in family.samples
    }


def test_an_alert_says_what_where_who_why_and_what_to_do(checkout: Service) -> None:
    Service.objects.update(runbook_url="https://runbooks.test/checkout")
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")
    refuse("checkout-2")
    instance("checkout-3", sequence=7)

    assert watch_rejections(now=NOW) == 1

    (alert,) = open_alerts()
    assert {key: value for key, value in alert.labels.items() if key != "reason_id"} == {
        "alertname": "TidegatePolicyRejected", "severity": "warning", "environment": "prod",
        "service": "checkout", "sequence": "7", "team": "payments-team",
    }  # fmt: skip
    said = alert.annotations
    assert said["summary"] == "2 of 3 live checkout instances reject policy #7 in prod"
    assert "They say: no such field. Correct the policy or roll it back" in said["description"]
    assert (said["instances"], said["reason"]) == ("checkout-1, checkout-2", "no such field")
    assert said["runbook_url"] == "https://runbooks.test/checkout"
    assert alert.starts_at == NOW - timedelta(seconds=20)
    path = said["convergence_url"].removeprefix("http://127.0.0.1:8000").partition("?")[0]
    assert resolve(path).url_name == "publication"
    assert alert.url == said["convergence_url"]


def test_each_service_publication_and_reason_fires_once(checkout: Service) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    publication_row(3, service="", issued_at=NOW - timedelta(minutes=9))
    refuse("checkout-1")
    refuse("checkout-2", reason="too large")
    refuse("newcomer-1", service="newcomer", sequence=1, rejected_etag="3-0-9f3c")

    for second in (0, 5, 10):
        assert watch_rejections(now=NOW + timedelta(seconds=second)) == 3

    found = {
        (a.labels["service"], a.labels["sequence"], a.annotations["reason"]) for a in open_alerts()
    }
    assert found == {
        ("checkout", "7", "no such field"),
        ("checkout", "7", "too large"),
        ("newcomer", "3", "no such field"),
    }
    assert Alert.objects.count() == 3
    newcomer = Alert.objects.get(labels__service="newcomer")
    assert newcomer.url == "http://127.0.0.1:8000/convergence/?environment=prod"


def test_it_is_over_when_nobody_rejects_it_any_more(checkout: Service) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")
    watch_rejections(now=NOW)

    InstanceReport.objects.update(state="applied", sequence=7, rejected_etag="", rejected_at=None)
    watch_rejections(now=NOW + timedelta(seconds=5))

    assert open_alerts() == []


def test_one_more_instance_is_the_same_alert_with_another_count(checkout: Service) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")
    watch_rejections(now=NOW)

    refuse("checkout-2")
    watch_rejections(now=NOW + timedelta(seconds=5))

    (alert,) = open_alerts()
    assert alert.annotations["summary"].startswith("2 of 2")


def test_when_delivery_cannot_write_reports_the_alert_stays(checkout: Service) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")
    instance("checkout-2", sequence=7)
    watch_rejections(now=NOW)

    watch_rejections(now=NOW + timedelta(minutes=5))
    assert len(open_alerts()) == 1

    others = Instance.objects.exclude(instance_id="checkout-1")
    others.update(last_seen_at=NOW + timedelta(minutes=6))  # the others are heard of again
    watch_rejections(now=NOW + timedelta(minutes=6))
    assert open_alerts() == []


def test_figures_are_left_for_scrapes_and_are_absent_when_old(checkout: Service) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")
    refuse("checkout-2", reason="too large")
    instance("checkout-3", sequence=7)
    instance("checkout-4", sequence=7, seen_at=NOW - timedelta(minutes=2))
    assert figures() == {}

    watch_rejections(now=NOW)

    assert figures() == {
        "instances.prod.live": 3,
        "instances.prod.current": 1,
        "instances.prod.drifting": 2,
        "instances.prod.rejecting": 2,
        "instances.prod.silent": 1,
        "rejecting_instances.prod.checkout": 2,
    }


def test_a_cache_that_is_away_keeps_no_alert_back(
    checkout: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise ValkeyAway

    monkeypatch.setattr(cache, "set", away)
    monkeypatch.setattr(cache, "get", away)
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    refuse("checkout-1")

    watch_rejections(now=NOW)

    assert len(open_alerts()) == 1
    assert figures() == {}


def test_services_beyond_a_bound_share_a_label(
    checkout: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "MAX_SERVICES", 1)
    for number in range(3):
        service = f"service-{number}"
        publication_row(7 + number, service=service, issued_at=NOW - timedelta(minutes=1))
        refuse(f"{service}-1", service=service, rejected_etag=f"{7 + number}-0-9f3c")

    watch_rejections(now=NOW)

    labelled = {key: value for key, value in figures().items() if key.startswith("rejecting_")}
    assert labelled == {
        "rejecting_instances.prod.service-0": 1,
        "rejecting_instances.prod.other": 2,
    }


def test_looking_takes_the_same_queries_however_many_instances(
    checkout: Service, django_assert_max_num_queries: Any
) -> None:
    publication_row(7, issued_at=NOW - timedelta(minutes=1))
    for number in range(40):
        refuse(f"checkout-{number}")
    watch_rejections(now=NOW)

    with django_assert_max_num_queries(8):
        watch_rejections(now=NOW + timedelta(seconds=5))


def test_a_rejection_is_counted_when_it_begins(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "controlplane.delivery.services.reports.count_rejection",
        lambda environment, service: counted.append((environment, service)),
    )
    for _ in range(3):  # each time by another node
        plane = make_plane(snapshot(7))
        headers = {
            "Tidegate-Instance": "checkout-1",
            "Tidegate-Rejected": '"7-0-9f3c"; reason="no"',
        }
        answer(plane, headers=headers)
        write_reports(plane.reports.take())

    assert counted == [("prod", "checkout")]


def test_counters_have_a_bounded_number_of_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruments, "_labelled", set())
    monkeypatch.setattr(instruments, "MAX_LABELLED_SERVICES", 2)
    for number in range(5):
        instruments.count_rejection("prod", f"bounded-{number}")

    labels = {
        sample.labels["service"]
        for family in instruments.REJECTIONS.collect()
        for sample in family.samples
    }
    assert {"bounded-0", "bounded-1", "other"} <= labels
    assert "bounded-2" not in labels


def test_many_instances_are_named_up_to_ten() -> None:
    names = tuple(f"i-{number}" for number in range(14))
    rejection = Rejection("prod", "checkout", 7, "", names, 20, NOW)

    said = rejection_annotations(rejection, url="http://t.test/", runbook_url="")

    assert said["instances"].endswith("i-9 and 4 more")
    assert "They say: nothing." in said["description"]
    assert "runbook_url" not in said
