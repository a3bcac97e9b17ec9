"""What fires is kept in the database exactly as its watcher sees it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from controlplane.notifications.domain.alerts import ChannelKind, fingerprint
from controlplane.notifications.models import Alert, Notice
from controlplane.notifications.selectors import list_alerts
from controlplane.notifications.services.alerts import prune_alerts
from tests.notifications.builders import SOURCE, content, fire


def open_services() -> list[str]:
    return sorted(alert.labels["service"] for alert in Alert.objects.filter(resolved_at=None))


def test_an_alert_fires_once_however_often_it_is_seen(db: None, now: datetime) -> None:
    assert fire(now, content(now)) == (1, 0)
    assert fire(now + timedelta(seconds=5), content(now)) == (0, 0)

    alert = Alert.objects.get()
    assert (alert.starts_at, alert.resolved_at) == (now - timedelta(seconds=3), None)
    assert sorted(notice.channel for notice in alert.notices.all()) == ["alertmanager", "webhook"]
    assert {notice.next_at for notice in alert.notices.all()} == {now}


def test_it_is_over_when_its_watcher_does_not_see_it_any_more(db: None, now: datetime) -> None:
    fire(now, content(now), content(now, "payments"))

    assert fire(now + timedelta(seconds=5), content(now, "payments")) == (0, 1)

    assert open_services() == ["payments"]
    assert Alert.objects.exclude(resolved_at=None).get().resolved_at == now + timedelta(seconds=5)


def test_one_that_comes_back_is_a_new_alert(db: None, now: datetime) -> None:
    fire(now, content(now))
    fire(now)

    assert fire(now, content(now)) == (1, 0)
    assert Alert.objects.count() == 2


def test_annotations_may_change_while_it_fires(db: None, now: datetime) -> None:
    fire(now, content(now))

    fire(now, content(now, summary="2 of 3 reject"))

    assert Alert.objects.get().annotations["summary"] == "2 of 3 reject"


def test_another_watcher_s_alerts_are_left_alone(db: None, now: datetime) -> None:
    fire(now, content(now))
    Alert.objects.update(source="another")

    fire(now)

    assert open_services() == ["checkout"]


def test_a_channel_that_is_configured_later_hears_of_what_still_fires(
    db: None, now: datetime
) -> None:
    fire(now, content(now), content(now, "payments"), channels=())
    fire(now, content(now), channels=())
    assert Notice.objects.count() == 0

    fire(now, content(now), channels=(ChannelKind.WEBHOOK,))

    assert [notice.alert.labels["service"] for notice in Notice.objects.all()] == ["checkout"]


def test_the_database_keeps_the_same_alert_from_firing_twice(db: None, now: datetime) -> None:
    fire(now, content(now))
    twin = Alert.objects.get()
    twin.pk = None

    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save(force_insert=True)


def test_a_watcher_that_came_second_changes_nothing(
    db: None, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from controlplane.notifications.services import alerts

    fire(now, content(now))
    monkeypatch.setattr(alerts, "list_open_alerts", lambda _source: [])  # it had not seen it yet

    fire(now, content(now))

    assert (Alert.objects.count(), Notice.objects.count()) == (1, 2)


def test_hundreds_take_a_handful_of_statements(
    db: None, now: datetime, django_assert_max_num_queries: Any
) -> None:
    many = [content(now, f"service-{number}") for number in range(300)]

    with django_assert_max_num_queries(20):
        fire(now, *many)
    with django_assert_max_num_queries(8):
        fire(now, *many)

    assert Alert.objects.filter(source=SOURCE).count() == 300


def test_alerts_are_forgotten_a_month_after_they_were_over(db: None, now: datetime) -> None:
    fire(now, content(now), content(now, "payments"))
    fire(now, content(now))

    assert prune_alerts(now=now + timedelta(days=29)) == 0
    assert prune_alerts(now=now + timedelta(days=31)) == 1
    assert [alert.labels["service"] for alert in list_alerts(limit=9)] == ["checkout"]
    assert Notice.objects.count() == 2


def test_a_fingerprint_does_not_depend_on_the_order_of_labels() -> None:
    assert fingerprint({"a": "1", "b": "2"}) == fingerprint({"b": "2", "a": "1"})
    assert fingerprint({"a": "1"}) != fingerprint({"a": "2"})
    assert fingerprint({"a": "1", "b": ""}) != fingerprint({"a": "1"})
