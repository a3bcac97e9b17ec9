"""Every form that writes acts once: a double click, a retry and a second tab find the first."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from django.test import Client

from controlplane.policies.models import Canary, Override
from controlplane.registry.models import Service
from controlplane.resilience.models import IdempotencyKey
from tests.dashboards.test_tune_page import DEADLINE, URL, with_paths, words
from tests.policies.builders import deadline, open_on, publish_on, start_on, stored_state

Fleet = dict[str, Service]
TEMPLATES = sorted((Path(__file__).resolve().parents[2] / "templates").rglob("*.html"))
# Forms that change nothing but the session of whoever sends them.
HARMLESS = ("'logout'", "'theme'", "'login'")
CASES = ("override", "version", "canary", "revert", "extend", "widen", "promote", "end", "rollback")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_every_form_that_writes_carries_a_key(path: Path) -> None:
    forms = re.findall(r'<form[^>]*method="post".*?</form>', path.read_text(), re.S)

    for form in forms:
        if "registration" in path.parts or any(each in form for each in HARMLESS):
            continue
        assert "{% once %}" in form, form[:120]


def key_of(html: str, action: str = "") -> str:
    """The key of the form that posts to `action`."""
    for form in re.findall(r"<form.*?</form>", html, re.S):
        key = re.search(r'name="once" value="([^"]+)"', form)
        if key and (not action or f'action="{action}"' in form):
            return key.group(1)
    raise AssertionError(f"no form with a key posts to {action}")


def prepared(
    case: str, client: Client, service: Service, now: datetime
) -> tuple[str, dict[str, str]]:
    """What a browser sends in each case, read off the page that has the form."""
    if case in ("override", "version", "canary"):
        lasts = {"override": {}, "version": {"lasts": "permanent"}, "canary": {"reach": "canary"}}
        return URL, with_paths(client, {DEADLINE: "2500"}, **lasts[case])
    if case in ("revert", "extend"):
        override = open_on(service, now)
        url = f"/overrides/{override.pk}/{case}"
        return url, {"by_s": "3600", "once": key_of(client.get("/changes/").content.decode(), url)}
    if case == "rollback":
        publish_on(service, now, deadline(2000))
        publish_on(service, now, deadline(2500))
        url = "/services/checkout/rollback/"
        html = client.get(f"{url}?to=1").content.decode()
        return url, {"to": "1", "current": "2", "reason": "worse", "once": key_of(html)}
    canary = start_on(service, now, ratio=0.1)
    html = client.get("/services/checkout/canary/").content.decode()
    form = f"/canaries/{canary.pk}/{'end' if case == 'end' else 'promote'}"
    sent = {"percent": "50", "reason": "held", "ratio_seen": "0.1", "once": key_of(html, form)}
    return f"/canaries/{canary.pk}/{case}", sent


@pytest.mark.parametrize("case", CASES)
def test_a_form_sent_twice_acts_once_and_shows_what_it_did(
    operator: Client, fleet: Fleet, now: datetime, case: str
) -> None:
    url, form = prepared(case, operator, fleet["checkout"], now)
    assert form["once"]

    first = operator.post(url, form)
    after_first = stored_state()
    second = operator.post(url, form)

    assert first.status_code == second.status_code == 302
    assert second["Location"] == first["Location"]
    assert stored_state() == after_first


@pytest.mark.parametrize("case", CASES)
def test_a_form_sent_again_with_other_content_does_nothing_and_says_so(
    operator: Client, fleet: Fleet, now: datetime, case: str
) -> None:
    url, form = prepared(case, operator, fleet["checkout"], now)
    operator.post(url, form)
    after_first = stored_state()

    answer = operator.post(url, form | {"reason": "another one", DEADLINE: "2400"}, follow=True)

    text = words(unescape(answer.content.decode()))
    assert "This form was sent before, with other content" in text
    assert stored_state() == after_first


def test_a_refused_form_may_be_corrected_and_sent_again(operator: Client, fleet: Fleet) -> None:
    form = with_paths(operator, {DEADLINE: "-5"})
    refused = operator.post(URL, form)

    assert refused.status_code == 422
    assert operator.post(URL, form | {DEADLINE: "2500"}).status_code == 302
    assert Override.objects.count() == 1


def test_the_same_change_from_a_second_tab_is_one_override(operator: Client, fleet: Fleet) -> None:
    first, second = (with_paths(operator, {DEADLINE: "2500"}) for _ in range(2))
    operator.post(URL, first)

    answer = operator.post(URL, second)

    assert first["once"] != second["once"]
    assert answer.status_code == 422
    assert "This is 2500 already, set by override" in words(answer.content.decode())
    assert Override.objects.count() == 1


def test_the_same_new_tenant_from_a_second_tab_is_one_override(
    operator: Client, fleet: Fleet
) -> None:
    tenant = {"tenant.name": "acme", "tenant.per_s": "7", "tenant.burst": "5"}
    first, second = (with_paths(operator, tenant) for _ in range(2))
    operator.post(URL, first)

    answer = operator.post(URL, second)

    assert answer.status_code == 422
    assert "This is 7 now, set by override" in words(answer.content.decode())
    assert Override.objects.count() == 1


def test_the_key_of_one_person_means_nothing_for_another(
    operator: Client, viewer: Client, fleet: Fleet, now: datetime
) -> None:
    url, form = prepared("extend", operator, fleet["checkout"], now)
    operator.post(url, form)

    assert viewer.post(url, form).status_code == 403


def test_the_key_is_kept_with_the_write_or_not_at_all(
    operator: Client, fleet: Fleet, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, form = prepared("revert", operator, fleet["checkout"], now)

    def fails(*args: object, **kwargs: object) -> None:
        raise RuntimeError("lost the database")

    with monkeypatch.context() as broken:
        broken.setattr("dashboards.views.changes.latest_publication", fails)
        with pytest.raises(RuntimeError):
            operator.post(url, form)
    assert IdempotencyKey.objects.count() == 0
    assert Override.objects.filter(closed_at=None).count() == 1

    assert operator.post(url, form).status_code == 302


@pytest.mark.parametrize("key", ["", "x" * 300, "a b", "<script>"])
def test_a_key_that_no_page_gave_out_is_refused(
    operator: Client, fleet: Fleet, now: datetime, key: str
) -> None:
    override = open_on(fleet["checkout"], now)

    answer = operator.post(f"/overrides/{override.pk}/revert", {"once": key})

    assert answer.status_code == 422
    assert Override.objects.filter(closed_at=None).count() == 1


def test_a_second_extension_is_another_click_on_another_page(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now, minutes=18)
    url = f"/overrides/{override.pk}/extend"
    for _ in range(2):
        key = key_of(operator.get("/changes/").content.decode(), url)
        operator.post(url, {"by_s": "3600", "once": key})

    override.refresh_from_db()
    assert override.ends_at == now + timedelta(minutes=138)


def test_a_number_seen_that_cannot_be_read_is_not_taken_for_none_seen(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    url, form = prepared("widen", operator, fleet["checkout"], now)

    answer = operator.post(url, form | {"ratio_seen": "0,1"})

    assert answer.status_code == 422
    assert Canary.objects.get().ratio == 0.1


def test_every_event_that_a_region_listens_for_is_sent_somewhere() -> None:
    root = Path(__file__).resolve().parents[2]
    sources = [*root.glob("dashboards/static/dashboards/js/*.js"), *root.glob("dashboards/**/*.py")]
    sent = "\n".join(path.read_text() for path in sources)
    triggers = [
        trigger.strip()
        for path in TEMPLATES
        for found in re.findall(r'hx-trigger="([^"]+)"', path.read_text())
        for trigger in found.split(",")
    ]
    listened = {each.split()[0] for each in triggers if " from:body" in each}

    assert listened
    for name in listened:
        assert re.search(rf'CustomEvent\("{name}"|trigger_client_event\([^)]*"{name}"', sent), name
