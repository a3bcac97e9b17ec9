"""The canary on the Service, Tune and Changes pages, and its own page with its forms."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.models import InstanceReport
from controlplane.policies.models import Canary, PolicyVersion
from controlplane.policies.services import end_canary, widen_canary
from controlplane.registry.models import Instance, Service
from tests.access.actors import OPERATOR
from tests.dashboards.test_tune_page import DEADLINE, PREVIEW, filled
from tests.dashboards.test_tune_page import URL as TUNE
from tests.policies.builders import (
    deadline,
    newest,
    newest_canary,
    open_on,
    publish_on,
    shed,
    start_on,
)

Fleet = dict[str, Service]
PAGE = "/services/checkout/canary/"
REGION = "/services/checkout/regions/canary"
MEMBERS = "/services/checkout/canary/regions/members"


def get(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def instances(canary: Canary, now: datetime, *, inside: int, outside: int) -> list[str]:
    """Live instances on each side of the canary's ratio; return the names of those in it."""
    found: list[str] = []
    left = {True: inside, False: outside}
    number = 0
    while any(left.values()):
        name, number = f"checkout-{number}", number + 1
        is_inside = position(canary.salt, name) < canary.ratio
        if not left[is_inside]:
            continue
        left[is_inside] -= 1
        row = Instance.objects.create(
            environment="prod", service_slug="checkout", instance_id=name,
            first_seen_at=now - timedelta(hours=1), last_seen_at=now,
        )  # fmt: skip
        sequence = newest_canary().sequence if is_inside else newest().sequence
        InstanceReport.objects.create(instance=row, sequence=sequence, state="applied", etag="x")
        if is_inside:
            found.append(name)
    return found


def test_without_a_canary_the_regions_say_so_and_offer_the_next_step(
    operator: Client, viewer: Client, fleet: Fleet
) -> None:
    html = get(operator, REGION)

    assert f'hx-get="{REGION}"' in html
    assert 'id="canary-checkout"' in html
    assert "No canary: every instance gets the same policy" in words(html)
    assert f'href="{TUNE}?reach=canary"' in html
    assert f'href="{TUNE}?reach=canary"' not in get(viewer, REGION)
    assert "Every instance of checkout gets the same policy" in words(get(operator, PAGE))
    assert "The canary is over" in words(get(operator, MEMBERS))


def test_the_service_page_shows_what_a_canary_tries_on_whom_and_until_when(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, deadline(2000))
    canary = start_on(fleet["checkout"], now, deadline(1500), ratio=0.3, minutes=30)
    names = instances(canary, now, inside=2, outside=3)

    html = get(operator, "/services/checkout/")

    text = words(html)
    assert f"Canary {canary.pk} on 30% of the instances ends in 30 m" in text
    assert "inbound.deadline_ms was 2,000 ms → is 1,500 ms" in text
    assert "2 of 5 live instances are in it, and all of them enforce it" in text
    assert all(name in text for name in names)
    assert "or it ends by itself at 02:44:00 UTC" in text
    assert f'href="{PAGE}"' in html
    assert f'action="/canaries/{canary.pk}/end"' in html


@pytest.mark.parametrize(
    ("state", "sequence", "level", "sentence"),
    [
        ("applied", None, "ok", "1 of 2 live instances is in it, and all of them enforce it."),
        ("fetched", 1, "warn", "1 of 2 live instances is in it, and 0 enforce it."),
        ("rejected", 1, "crit", "1 of 2 live instances is in it, and 1 rejected it."),
    ],
)
def test_a_canary_says_how_it_goes(
    operator: Client,
    fleet: Fleet,
    now: datetime,
    state: str,
    sequence: int | None,
    level: str,
    sentence: str,
) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.3)
    (name,) = instances(canary, now, inside=1, outside=1)
    InstanceReport.objects.filter(instance__instance_id=name).update(
        state=state, sequence=sequence or newest_canary().sequence
    )

    html = get(operator, MEMBERS)

    assert f'class="check {level}"' in html
    assert sentence in words(html)


def test_a_canary_that_reaches_nobody_says_so(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.3)
    assert "No live instance asks for a policy: nobody tries it." in words(get(operator, REGION))

    instances(canary, now, inside=0, outside=1)

    text = words(get(operator, REGION))
    assert "It reaches 0 of 1 live instance: nobody tries it until it is widened" in text


def test_the_page_says_how_many_each_step_would_reach(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.3)
    instances(canary, now, inside=1, outside=2)

    text = words(get(operator, PAGE))

    assert "100% 3 of 3" in text
    assert "25%" not in text


def test_the_page_widens_and_follows_that(operator: Client, fleet: Fleet, now: datetime) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.1)

    answer = operator.post(
        f"/canaries/{canary.pk}/widen",
        {"percent": "50", "reason": "p99 held", "ratio_seen": "0.1"},
    )

    assert answer.headers["Location"] == f"/changes/{newest_canary().sequence}/"
    assert Canary.objects.get().ratio == 0.5
    text = words(get(operator, answer.headers["Location"]))
    assert "canary widened to 50% of the instances" in text
    assert "Widen, promote or end it" in text


def test_the_page_promotes_and_follows_that(operator: Client, fleet: Fleet, now: datetime) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.1)

    answer = operator.post(
        f"/canaries/{canary.pk}/promote", {"reason": "it held", "ratio_seen": "0.1"}
    )

    assert answer.headers["Location"] == f"/changes/{newest().sequence}/"
    assert PolicyVersion.objects.get().reason == "it held"
    assert "canary promoted, v1 published" in words(get(operator, answer.headers["Location"]))


def test_one_click_ends_a_canary(operator: Client, fleet: Fleet, now: datetime) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.1)

    answer = operator.post(f"/canaries/{canary.pk}/end")

    assert answer.headers["Location"] == f"/changes/{newest().sequence}/"
    assert Canary.objects.get().outcome == "ended"
    assert "Ended by hand: on a few first" in words(get(operator, answer.headers["Location"]))


@pytest.mark.parametrize(
    ("form", "status", "sentence"),
    [
        ({"percent": "50", "reason": ""}, 422, "Say why"),
        ({"percent": "", "reason": "x"}, 422, "Choose how many instances it should reach."),
        ({"percent": "ten", "reason": "x"}, 422, "Choose how many instances it should reach."),
        ({"percent": "5", "reason": "x"}, 422, "ratio must be more than 0.1"),
        ({"percent": "50", "reason": "x", "ratio_seen": "0.05"}, 412, "has ratio 0.1, not 0.05"),
    ],
)
def test_a_refused_step_draws_the_page_with_the_reason_and_what_was_typed(
    operator: Client,
    fleet: Fleet,
    now: datetime,
    form: dict[str, str],
    status: int,
    sentence: str,
) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.1)

    answer = operator.post(f"/canaries/{canary.pk}/widen", form)

    html = answer.content.decode()
    assert answer.status_code == status
    assert "Nothing was changed." in html
    assert sentence in words(html)
    assert f'value="{form["reason"]}"' in html
    assert Canary.objects.get().ratio == 0.1


def test_what_is_over_cannot_be_promoted_from_an_old_page(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now)
    end_canary(actor=OPERATOR, canary=canary, reason="burnt", now=now)

    answer = operator.post(f"/canaries/{canary.pk}/promote", {"reason": "x"})

    assert answer.status_code == 409
    assert "was ended by oncall before" in words(answer.content.decode())
    assert PolicyVersion.objects.count() == 0


def test_a_viewer_sees_a_canary_and_no_way_to_change_it(
    viewer: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now)

    for url in (PAGE, REGION, "/changes/"):
        html = get(viewer, url)
        assert f"/canaries/{canary.pk}/" not in html
    for step in ("widen", "promote", "end"):
        answer = viewer.post(f"/canaries/{canary.pk}/{step}", {"percent": "50", "reason": "x"})
        assert answer.status_code == 403
    assert Canary.objects.get().closed_at is None


def test_the_tune_page_starts_a_canary_and_follows_it(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, shed(1))
    form = filled(operator, reach="canary", percent="25") | {DEADLINE: "1500"}

    answer = operator.post(TUNE, form)

    canary = Canary.objects.get()
    assert answer.headers["Location"] == f"/changes/{newest_canary().sequence}/"
    assert (canary.ratio, canary.ends_at - now) == (0.25, timedelta(seconds=900))
    assert canary.document == {"inbound": {"shedding": {"level": 1}, "deadline_ms": 1500}}
    text = words(get(operator, answer.headers["Location"]))
    assert "canary started on 25% of the instances" in text
    assert "inbound.deadline_ms was 3,000 ms → is 1,500 ms" in text


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"percent": "0"}, "Enter how many of the instances it reaches"),
        ({"percent": "101"}, "Enter how many of the instances it reaches"),
        ({"percent": "a few"}, "Enter how many of the instances it reaches"),
        ({"lasts": "permanent"}, "A canary ends by itself"),
        ({"lasts": "custom", "custom_s": "90000"}, "a canary lasts 5 s to 24 h"),
    ],
)
def test_a_canary_that_makes_no_sense_is_refused_on_the_form(
    operator: Client, fleet: Fleet, form: dict[str, str], sentence: str
) -> None:
    answer = operator.post(TUNE, filled(operator, reach="canary") | {DEADLINE: "1500"} | form)

    html = answer.content.decode()
    assert answer.status_code == 422
    assert sentence in words(html)
    assert re.search(r'name="reach" value="canary" checked', html)
    assert Canary.objects.count() == 0


def test_the_preview_says_what_becomes_of_a_canary(operator: Client, fleet: Fleet) -> None:
    form = filled(operator, reach="canary") | {DEADLINE: "1500"}

    text = words(operator.post(PREVIEW, form).content.decode())

    assert "Started as a canary on a part of the instances" in text


def test_the_tune_page_offers_neither_a_second_canary_nor_a_version_meanwhile(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    start_on(fleet["checkout"], now, ratio=0.1)

    html = get(operator, TUNE)

    assert "A canary is in force on 10% of the instances." in words(html)
    assert 'value="permanent"' not in html
    assert 'name="reach"' not in html
    refused = operator.post(TUNE, filled(operator, lasts="permanent") | {DEADLINE: "1500"})
    assert refused.status_code == 409
    assert "promote it or end it first" in words(refused.content.decode())
    override = operator.post(TUNE, filled(operator) | {DEADLINE: "1500"})
    assert override.status_code == 302


def test_the_changes_page_lists_a_canary_in_force_and_how_it_came_to_be(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now, deadline(1500), ratio=0.1)
    widen_canary(actor=OPERATOR, canary=canary, ratio=0.5, reason="calm", now=now)
    open_on(fleet["payments"], now, shed(1))

    html = get(operator, "/changes/")

    text = words(html)
    assert "1 override and 1 canary" in text
    assert f"canary {canary.pk} · on a few first" in text
    assert "on 50%" in text
    assert "canary widened to 50% of the instances" in text
    assert "canary started on 10% of the instances" in text
    assert html.count(f'action="/canaries/{canary.pk}/end"') == 3  # in force, and both changes
    only = words(get(operator, "/changes/?kind=canary"))
    assert "canary started" in only
    assert "override opened" not in only.split("History")[1]


def test_a_canary_in_force_costs_a_fixed_number_of_queries(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    canary = start_on(fleet["checkout"], now, ratio=0.5)
    get(operator, REGION)
    with CaptureQueriesContext(
        connection,
    ) as few:
        get(operator, REGION)
    instances(canary, now, inside=5, outside=5)

    with CaptureQueriesContext(connection) as many:
        get(operator, REGION)

    assert len(many) == len(few)
