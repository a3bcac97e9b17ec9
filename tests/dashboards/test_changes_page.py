from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.access.models import AuditEntry
from controlplane.delivery.models import Acknowledgement, InstanceReport
from controlplane.policies.models import Override, PolicyVersion
from controlplane.registry.models import Instance, Service
from tests.policies.builders import newest, open_on, publish_on, shed

Fleet = dict[str, Service]


def get(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def instance(name: str, now: datetime, *, sequence: int, state: str = "applied") -> None:
    row = Instance.objects.create(
        environment="prod", service_slug="checkout", instance_id=name,
        first_seen_at=now - timedelta(hours=1), last_seen_at=now,
    )  # fmt: skip
    InstanceReport.objects.create(instance=row, sequence=sequence, state=state, etag="x")
    if state != "fetched":
        Acknowledgement.objects.create(
            environment="prod", service_slug="checkout", sequence=newest().sequence,
            instance_id=name, outcome=state, reason="no such field" if state == "rejected" else "",
            at=now + timedelta(seconds=0.3),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "region"),
    [("/changes/regions/in-force", "in-force-prod"), ("/changes/regions/history", "history-prod")],
)
def test_each_region_knows_its_id_and_its_refresh_url(
    operator: Client, fleet: Fleet, url: str, region: str
) -> None:
    html = get(operator, url)

    assert f'id="{region}"' in html
    assert f'hx-get="{url}"' in html
    assert "<html" not in html


def test_without_changes_the_page_says_what_to_do(operator: Client, fleet: Fleet) -> None:
    text = words(get(operator, "/changes/"))

    assert "No overrides: every service runs on its reviewed policy." in text
    assert "Nothing has been changed yet in prod." in text


def test_an_override_in_force_shows_what_it_changed_and_when_it_ends(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, shed(2), minutes=18)

    text = words(get(operator, "/changes/regions/in-force"))

    assert "checkout is drowning" in text
    assert "inbound.shedding.level was 0 → is 2" in text
    assert "reverts in 18 m" in text
    assert "Revert now" in text


def test_a_viewer_sees_no_buttons(viewer: Client, fleet: Fleet, now: datetime) -> None:
    open_on(fleet["checkout"], now)
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2500}})

    html = get(viewer, "/changes/")

    assert "/revert" not in html
    assert "/rollback/" not in html
    assert "look only" in html


def test_history_names_who_what_why_and_when(operator: Client, fleet: Fleet, now: datetime) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})

    html = get(operator, "/changes/regions/history")
    text = words(html)

    assert "v1 published" in text
    assert "oncall" in text
    assert "a new version" in text
    assert "inbound.deadline_ms was 3,000 ms → is 2,000 ms" in text
    assert '<time datetime="2026-11-02T02:14:00Z"' in html


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("service=payments", "No change matches"),
        ("kind=version", "v1 published"),
        ("kind=override", "No change matches"),
        ("who=oncall", "v1 published"),
        ("who=nobody", "No change matches"),
        ("kind=nonsense", "v1 published"),
    ],
)
def test_filters_are_in_the_url(
    operator: Client, fleet: Fleet, now: datetime, query: str, expected: str
) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})

    assert expected in words(get(operator, f"/changes/?{query}"))


def test_older_changes_are_a_page_away(operator: Client, fleet: Fleet, now: datetime) -> None:
    for number in range(52):
        publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000 + number}})

    html = get(operator, "/changes/")
    older = re.search(r'id="older" href="([^"]+)"', html)
    assert older is not None
    second = get(operator, older.group(1).replace("&amp;", "&"))

    assert "v52 published" in html
    assert "v2 published" in second
    assert "v1 published" in second
    assert "Newest" in second
    assert 'hx-get="/changes/regions/history' not in second


def test_the_history_makes_a_fixed_number_of_queries(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            get(operator, "/changes/")
        return len(captured)

    open_on(fleet["checkout"], now)
    few = queries()
    for number in range(20):
        publish_on(fleet["payments"], now, {"inbound": {"deadline_ms": 2000 + number}})
        open_on(fleet["checkout"], now)

    assert queries() == few


def test_a_change_is_followed_until_it_has_landed(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, shed(2))
    sequence = newest().sequence
    instance("checkout-1", now, sequence=sequence)
    instance("checkout-2", now, sequence=sequence - 1, state="fetched")

    html = get(operator, f"/changes/{sequence}/")

    assert "1 of 2 instances enforces it" in words(html)
    assert "Waiting for 1" in words(html)
    assert f'hx-get="/changes/{sequence}/regions/spread" hx-trigger="every 300ms"' in html
    assert 'data-final="no"' in html
    assert 'aria-live="polite"' in html


def test_polling_stops_when_every_instance_has_answered(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, shed(2))
    sequence = newest().sequence
    instance("checkout-1", now, sequence=sequence)
    instance("checkout-2", now, sequence=sequence - 1, state="rejected")

    answer = operator.get(f"/changes/{sequence}/regions/spread")
    html = answer.content.decode()

    assert answer.status_code == 286
    assert 'data-final="yes"' in html
    assert "hx-get" not in html
    assert "checkout-2 rejected it: “no such field”" in words(html).replace("  ", " ")
    assert "first 0.3 s · p99 0.3 s" in words(html)


def test_a_change_that_reaches_nobody_says_so(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, shed(2))

    assert "No live instance" in get(operator, f"/changes/{newest().sequence}/")


def test_an_unknown_sequence_is_not_found(operator: Client, fleet: Fleet) -> None:
    for sequence in (999, 10**30):
        assert operator.get(f"/changes/{sequence}/").status_code == 404
        assert operator.get(f"/changes/{sequence}/regions/spread").status_code == 404


def test_one_click_reverts_and_follows_that_change(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now)

    answer = operator.post(f"/overrides/{override.pk}/revert")

    assert answer["Location"] == f"/changes/{newest().sequence}/"
    override.refresh_from_db()
    assert override.closed_by == "oncall"
    entry = AuditEntry.objects.filter(action="override.reverted").get()
    assert entry.reason == "Reverted by hand: checkout is drowning"


def test_reverting_twice_is_a_conflict_that_says_who_was_first(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now)
    operator.post(f"/overrides/{override.pk}/revert")

    answer = operator.post(f"/overrides/{override.pk}/revert")

    assert answer.status_code == 409
    assert "was closed by oncall" in answer.content.decode()


def test_an_override_can_be_given_an_hour_more(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now, minutes=18)

    answer = operator.post(f"/overrides/{override.pk}/extend", {"by_s": "3600"}, follow=True)

    override.refresh_from_db()
    assert override.ends_at == now + timedelta(minutes=78)
    assert "now ends at 03:32:00 UTC" in answer.content.decode()


def test_an_override_that_may_not_last_longer_says_the_limit(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now, minutes=8 * 60)

    answer = operator.post(f"/overrides/{override.pk}/extend", follow=True)

    assert "an override lasts 5 s to 8 h from now" in answer.content.decode()
    override.refresh_from_db()
    assert override.ends_at == now + timedelta(hours=8)


@pytest.mark.parametrize("by_s", ["", "-5", "abc", "1e3", "9" * 30])
def test_an_odd_extension_is_refused_and_extends_nothing(
    operator: Client, fleet: Fleet, now: datetime, by_s: str
) -> None:
    override = open_on(fleet["checkout"], now)

    answer = operator.post(f"/overrides/{override.pk}/extend", {"by_s": by_s})

    assert answer.status_code == 422
    assert "by_s must be a whole number of seconds" in answer.content.decode()
    assert Override.objects.get(pk=override.pk).ends_at == override.ends_at


@pytest.mark.parametrize("verb", ["revert", "extend"])
def test_a_viewer_may_not_write(viewer: Client, fleet: Fleet, now: datetime, verb: str) -> None:
    override = open_on(fleet["checkout"], now)

    assert viewer.post(f"/overrides/{override.pk}/{verb}").status_code == 403
    assert Override.objects.filter(closed_at=None, ends_at=override.ends_at).count() == 1


@pytest.mark.parametrize("verb", ["revert", "extend"])
def test_looking_never_writes(operator: Client, fleet: Fleet, now: datetime, verb: str) -> None:
    override = open_on(fleet["checkout"], now)

    assert operator.get(f"/overrides/{override.pk}/{verb}").status_code == 405


def test_a_rollback_shows_what_it_changes_then_publishes_it_again(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2500}})

    asked = words(get(operator, "/services/checkout/rollback/?to=1"))
    answer = operator.post(
        "/services/checkout/rollback/", {"to": "1", "current": "2", "reason": "v2 was worse"}
    )

    assert "inbound.deadline_ms was 2,500 ms → is 2,000 ms" in asked
    assert answer["Location"] == f"/changes/{newest().sequence}/"
    version = PolicyVersion.objects.get(service=fleet["checkout"], number=3)
    assert version.document == {"inbound": {"deadline_ms": 2000}}
    assert version.reason == "v2 was worse"


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"to": "1", "current": "2", "reason": ""}, 422, "Say why"),
        ({"to": "1", "current": "1", "reason": "x"}, 412, "is at version 2, not 1"),
        ({"to": "9", "current": "2", "reason": "x"}, 404, "has no version 9"),
        ({"to": "all", "current": "2", "reason": "x"}, 422, "to must be a whole number"),
    ],
    ids=["no reason", "overtaken", "no such version", "not a number"],
)
def test_a_rollback_that_cannot_be_made_changes_nothing(
    operator: Client, fleet: Fleet, now: datetime, form: dict[str, str], status: int, sentence: str
) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2500}})

    answer = operator.post("/services/checkout/rollback/", form)

    assert answer.status_code == status
    assert sentence in answer.content.decode()
    assert PolicyVersion.objects.count() == 2


def test_a_viewer_may_not_roll_back(viewer: Client, fleet: Fleet, now: datetime) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 2000}})

    assert viewer.get("/services/checkout/rollback/?to=1").status_code == 403
    assert viewer.get("/fleet-default/rollback/?to=1").status_code == 403
