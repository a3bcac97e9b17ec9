"""What the Tune form sends and how it is read: any number of controls, and no guesses."""

from __future__ import annotations

import re
from datetime import datetime
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from controlplane.policies.models import Canary, Override, PolicyVersion
from controlplane.policies.services import publish_fleet_default
from controlplane.registry.models import Dependency, Endpoint, Service
from tests.access.actors import ADMIN
from tests.dashboards.test_tune_page import (
    ACME_BURST,
    ACME_PER_S,
    BUDGET,
    BURST,
    DEADLINE,
    PER_S,
    PREVIEW,
    URL,
    filled,
    with_paths,
    words,
)
from tests.policies.builders import newest, newest_canary

Fleet = dict[str, Service]
TEMPLATES = sorted((Path(__file__).resolve().parents[2] / "templates").rglob("*.html"))
MULTIPLIER = "outbound.dependencies.payments.retry.backoff.multiplier"


def send(client: Client, url: str, form: dict[str, str]) -> Any:
    """Post a form in the encoding that browsers use for it."""
    return client.post(url, urlencode(form), content_type="application/x-www-form-urlencoded")


@pytest.fixture
def large(fleet: Fleet) -> Fleet:
    """checkout with 100 dependencies and 130 endpoints."""
    Dependency.objects.bulk_create(
        Dependency(service=fleet["checkout"], name=f"dependency-{number}") for number in range(99)
    )
    Endpoint.objects.bulk_create(
        Endpoint(service=fleet["checkout"], method="GET", route=f"/things/{number}")
        for number in range(129)
    )
    return fleet


def test_a_service_with_thousands_of_controls_is_tuned_without_a_script(
    operator: Client, large: Fleet
) -> None:
    form = with_paths(operator, {DEADLINE: "2500"})

    answer = send(operator, URL, form)

    assert len(form) > 4000
    assert answer.status_code == 302
    assert Override.objects.get().patch == {"inbound": {"deadline_ms": 2500}}


def test_the_last_of_thousands_of_controls_is_not_cut_off(operator: Client, large: Fleet) -> None:
    form = filled(operator)
    last = [name for name in form if re.match("outbound.*connect_ms$", name)][-1]

    html = send(operator, PREVIEW, form | {last: "77"}).content.decode()

    assert "1 field" in words(html)
    assert "77 ms" in words(html)


def test_a_large_form_still_needs_its_token(operator: Client, large: Fleet) -> None:
    form = with_paths(operator, {DEADLINE: "2500"})
    operator.handler.enforce_csrf_checks = True

    assert send(operator, URL, form | {"csrfmiddlewaretoken": "x" * 64}).status_code == 403
    assert Override.objects.count() == 0


@pytest.mark.parametrize("url", [URL, PREVIEW])
def test_a_form_beyond_every_bound_is_refused(operator: Client, fleet: Fleet, url: str) -> None:
    fields = {f"was:f{number}": "" for number in range(20_001)}

    answer = send(operator, url, fields)

    assert answer.status_code == 422
    assert "more than 20,000 fields" in answer.content.decode()


def test_controls_that_are_not_sent_are_left_alone(operator: Client, fleet: Fleet) -> None:
    form = {f"was:{DEADLINE}": "3000", DEADLINE: "2500", f"was:{PER_S}": "30", "reason": "x"}

    operator.post(URL, form | {"lasts": "900"})

    assert Override.objects.get().patch == {"inbound": {"deadline_ms": 2500}}


def test_half_a_limit_is_not_removed_because_the_other_half_is_not_sent(
    operator: Client, fleet: Fleet
) -> None:
    form = {f"was:{PER_S}": "30", PER_S: "", "reason": "x", "lasts": "900"}

    answer = operator.post(URL, form)

    assert answer.status_code == 422
    assert "A limit needs both numbers" in words(answer.content.decode())


AMBIGUOUS = [
    (DEADLINE, "1.000", "write 1000, or 1 for the smaller"),
    (DEADLINE, "3.000", "write 3000, or 3 for the smaller"),
    (MULTIPLIER, "1.125", "write 1125, or 1.1250 for the smaller"),
    (BUDGET, "0,5", "decimals follow a dot, not a comma"),
    (DEADLINE, "1,000", "decimals follow a dot, not a comma"),
    (DEADLINE, "2 5", "Enter a number (ms)"),
    (DEADLINE, "25_00", "Enter a number (ms)"),
    (DEADLINE, "٣٠", "Enter a number (ms)"),
]


@pytest.mark.parametrize(("path", "text", "sentence"), AMBIGUOUS, ids=[a[1] for a in AMBIGUOUS])
def test_a_number_that_may_mean_two_things_is_refused_by_name(
    operator: Client, fleet: Fleet, path: str, text: str, sentence: str
) -> None:
    answer = operator.post(URL, with_paths(operator, {path: text}))
    html = answer.content.decode()

    assert answer.status_code == 422
    assert sentence in words(html)
    assert re.search(rf'name="{re.escape(path)}" value="{re.escape(text)}"[^>]*aria-invalid', html)
    assert Override.objects.count() == 0


def test_a_number_that_only_looks_like_the_one_in_force_is_refused_too(
    operator: Client, fleet: Fleet
) -> None:
    form = with_paths(operator, {MULTIPLIER: "2.000"})

    assert operator.post(URL, form).status_code == 422


@pytest.mark.parametrize(("text", "value"), [("2 500", 2500), ("2_500", 2500), ("2500.0", 2500)])
def test_a_number_with_one_meaning_is_read(
    operator: Client, fleet: Fleet, text: str, value: int
) -> None:
    operator.post(URL, with_paths(operator, {DEADLINE: text}))

    assert Override.objects.get().patch == {"inbound": {"deadline_ms": value}}


@pytest.mark.parametrize("percent", ["1.000", "0,5", "5 0", "NaN"])
def test_a_part_of_the_instances_that_may_mean_two_things_is_refused(
    operator: Client, fleet: Fleet, percent: str
) -> None:
    form = with_paths(operator, {DEADLINE: "2500"}, reach="canary", percent=percent)

    assert operator.post(URL, form).status_code == 422
    assert Canary.objects.count() == 0


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_input_lets_the_browser_send_nothing_for_what_it_cannot_read(path: Path) -> None:
    """A browser sends "" for `type="number"` with "0,5" in it, which reads as "removed"."""
    assert 'type="number"' not in path.read_text()


LIMITS = {
    "tenants": {"named": {"acme": {"per_s": 5, "burst": 5}}, "default": {"per_s": 9, "burst": 9}},
    "endpoints": {"POST /orders": {"rate": {"per_s": 30, "burst": 10}, "deadline_ms": 900}},
}
DEFAULT_PER_S, DEFAULT_BURST = "inbound.tenants.default.per_s", "inbound.tenants.default.burst"
ENDPOINT_DEADLINE = 'inbound.endpoints["POST /orders"].deadline_ms'
REMOVALS = {
    "a tenant's": ((ACME_PER_S, ACME_BURST), "acme"),
    "every other tenant's": ((DEFAULT_PER_S, DEFAULT_BURST), "default"),
    "an endpoint's": ((PER_S, BURST), "rate"),
    "an endpoint's deadline": ((ENDPOINT_DEADLINE,), "deadline"),
}


def _is_gone(what: str, policy: dict[str, dict[str, dict[str, dict[str, object]]]]) -> bool:
    inbound = policy["inbound"]
    return {
        "acme": "acme" not in inbound["tenants"]["named"],
        "default": inbound["tenants"]["default"] is None,
        "rate": "rate" not in inbound["endpoints"].get("POST /orders", {}),
        "deadline": inbound["endpoints"]["POST /orders"]["deadline_ms"] == 3000,
    }[what]


@pytest.mark.parametrize(
    ("name", "how"),
    # A version has no null for a deadline, see the next test.
    [
        (name, how)
        for name in REMOVALS
        for how in ("override", "version", "canary")
        if how == "override" or name != "an endpoint's deadline"
    ],
)
def test_a_limit_of_the_fleet_default_can_be_removed_for_one_service(
    operator: Client, fleet: Fleet, now: datetime, name: str, how: str
) -> None:
    publish_fleet_default(
        actor=ADMIN, environment=fleet["checkout"].environment, document={"inbound": LIMITS},
        reason="limits for all", now=now,
    )  # fmt: skip
    paths, what = REMOVALS[name]
    others = {
        "override": {"lasts": "900"},
        "version": {"lasts": "permanent"},
        "canary": {"reach": "canary", "percent": "50"},
    }[how]
    form = with_paths(operator, dict.fromkeys(paths, ""), **others)

    preview = words(operator.post(PREVIEW, form).content.decode())
    answer = operator.post(URL, form)

    assert answer.status_code == 302
    assert "nothing would change" not in preview
    published = newest_canary() if how == "canary" else newest()
    assert _is_gone(what, published.policy)
    assert not _is_gone(what, newest("payments").policy)


@pytest.mark.parametrize("others", [{"lasts": "permanent"}, {"reach": "canary"}], ids=str)
def test_what_a_version_cannot_take_away_is_refused_with_what_to_do(
    operator: Client, fleet: Fleet, now: datetime, others: dict[str, str]
) -> None:
    publish_fleet_default(
        actor=ADMIN, environment=fleet["checkout"].environment, document={"inbound": LIMITS},
        reason="limits for all", now=now,
    )  # fmt: skip

    answer = operator.post(URL, with_paths(operator, {ENDPOINT_DEADLINE: ""}, **others))

    assert answer.status_code == 422
    assert "a version can replace it but not take it away" in words(answer.content.decode())


def test_a_limit_that_was_removed_for_one_service_can_be_set_again(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_fleet_default(
        actor=ADMIN, environment=fleet["checkout"].environment, document={"inbound": LIMITS},
        reason="limits for all", now=now,
    )  # fmt: skip
    emptied = {ACME_PER_S: "", ACME_BURST: ""}
    operator.post(URL, with_paths(operator, emptied, lasts="permanent"))
    tenant = {"tenant.name": "acme", "tenant.per_s": "7", "tenant.burst": "7"}

    operator.post(URL, with_paths(operator, tenant, lasts="permanent"))

    assert newest().policy["inbound"]["tenants"]["named"]["acme"]["per_s"] == 7
    assert PolicyVersion.objects.filter(service=fleet["checkout"]).count() == 2


def test_what_the_form_names_is_on_the_page_once(operator: Client, fleet: Fleet) -> None:
    html = operator.get(URL).content.decode()

    names = [unescape(name) for name in re.findall(r'name="(was:[^"]+)"', html)]
    assert len(names) == len(set(names))
