from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape

import pytest
from django.test import Client

from controlplane.access.models import AuditEntry
from controlplane.delivery.models import InstanceReport
from controlplane.policies.models import Override, PolicyVersion, Publication
from controlplane.registry.models import Instance, Service
from controlplane.telemetry.domain.picture import TenantSignals
from tests.dashboards.pictures import healthy, show, storm
from tests.policies.builders import newest, open_on, publish_on

Fleet = dict[str, Service]
URL = "/services/checkout/tune/"
PREVIEW = "/services/checkout/tune/regions/preview"
DEADLINE = "inbound.deadline_ms"
BUDGET = "outbound.dependencies.payments.retry.budget.ratio"
ATTEMPTS = "outbound.dependencies.payments.retry.max_attempts"
PER_S = 'inbound.endpoints["POST /orders"].rate.per_s'
BURST = 'inbound.endpoints["POST /orders"].rate.burst'
ACME_PER_S = "inbound.tenants.named.acme.per_s"
ACME_BURST = "inbound.tenants.named.acme.burst"


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def filled(client: Client, **changes: str) -> dict[str, str]:
    """The form as the browser would send it, with some inputs changed."""
    html = client.get(URL).content.decode()
    form: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]+>", html):
        name, value = re.search(r'name="([^"]+)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and 'type="radio"' not in tag:
            form[unescape(name.group(1))] = unescape(value.group(1)) if value else ""
    for name, options in re.findall(r'<select[^>]*name="([^"]+)"[^>]*>(.*?)</select>', html, re.S):
        chosen = re.search(r'value="([^"]*)" selected', options)
        form[unescape(name)] = chosen.group(1) if chosen else ""
    form.pop("q", None)
    return form | {"lasts": "900", "reason": "INC-2291"} | changes


def with_paths(client: Client, changes: dict[str, str], **others: str) -> dict[str, str]:
    return filled(client, **others) | changes


def control(html: str, path: str) -> str:
    parts = html.replace("&quot;", '"').split('<div class="control">')
    return words(next(part for part in parts if f'name="{path}"' in part))


def test_every_section_is_there_and_the_url_opens_one(operator: Client, fleet: Fleet) -> None:
    html = operator.get(f"{URL}?section=breakers").content.decode()

    for key in ("shedding", "limits", "tenants", "endpoints", "retries", "breakers", "timeouts"):
        assert f'id="section-{key}"' in html
    assert re.search(r'id="section-breakers"[^>]*checked', html)


def test_a_control_says_its_value_where_it_comes_from_and_what_it_beat(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    patch = {"outbound": {"dependencies": {"payments": {"retry": {"budget": {"ratio": 0.5}}}}}}
    publish_on(fleet["checkout"], now, patch)
    show(now, {"checkout": healthy(dependencies={"payments": storm()})})

    text = control(operator.get(URL).content.decode(), BUDGET)

    assert "Retry budget" in text
    assert "set by v1 , beats 10% of built in" in text
    assert "now 131% (2.31× attempts per request)" in text
    assert "in force: 50%" in text
    assert "0% to 100%" in text


def test_a_control_without_a_layer_of_its_own_names_the_default(
    operator: Client, fleet: Fleet
) -> None:
    text = control(operator.get(URL).content.decode(), ATTEMPTS)

    assert "built in (outbound.defaults)" in text


def test_the_live_value_of_a_limit_is_per_instance(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    limits = {"inbound": {"tenants": {"named": {"acme": {"per_s": 5, "burst": 5}}}}}
    publish_on(fleet["checkout"], now, limits)
    tenants = {"acme": TenantSignals(6.6, 0.09)}
    show(now, {"checkout": healthy(rate_per_s=30.0, tenants=tenants)})

    html = operator.get(URL).content.decode()

    assert "now 10 /s each, 30 /s over 3" in control(html, "inbound.rate.per_s")
    assert "now 2.2 /s each, 6.6 /s over 3, 9.0% limited" in control(html, ACME_PER_S)


def test_only_what_changed_goes_into_the_override(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    answer = operator.post(URL, with_paths(operator, {BUDGET: "10.5", ATTEMPTS: "2"}))

    override = Override.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == f"/changes/{newest().sequence}/"
    assert override.patch == {
        "outbound": {
            "dependencies": {"payments": {"retry": {"max_attempts": 2, "budget": {"ratio": 0.105}}}}
        }
    }
    assert override.reason == "INC-2291"
    assert override.ends_at - override.starts_at == timedelta(minutes=15)
    assert AuditEntry.objects.get(action="override.opened").actor == "oncall"


def test_a_change_may_last_any_whole_number_of_seconds(operator: Client, fleet: Fleet) -> None:
    operator.post(URL, with_paths(operator, {DEADLINE: "2500"}, lasts="custom", custom_s="20"))

    override = Override.objects.get()
    assert override.ends_at - override.starts_at == timedelta(seconds=20)


def test_permanent_publishes_a_version_that_keeps_what_was_set(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    publish_on(fleet["checkout"], now, {"inbound": {"rate": {"per_s": 300}}})

    operator.post(URL, with_paths(operator, {DEADLINE: "2500"}, lasts="permanent"))

    version = PolicyVersion.objects.get(service=fleet["checkout"], number=2)
    assert version.document == {"inbound": {"deadline_ms": 2500, "rate": {"per_s": 300}}}
    assert Override.objects.count() == 0


def test_permanent_is_refused_when_somebody_published_meanwhile(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    form = with_paths(operator, {DEADLINE: "2500"}, lasts="permanent")
    publish_on(fleet["checkout"], now, {"inbound": {"rate": {"per_s": 300}}})

    answer = operator.post(URL, form)

    assert answer.status_code == 412
    assert "is at version 1, not 0" in words(answer.content.decode())
    assert PolicyVersion.objects.count() == 1


def test_a_value_that_changed_meanwhile_is_not_overwritten_unseen(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    form = with_paths(operator, {DEADLINE: "2500"})
    open_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 1000}})

    answer = operator.post(URL, form)

    assert answer.status_code == 422
    assert "This is 1000 now, set by override" in words(answer.content.decode())
    assert Override.objects.count() == 1


def test_a_value_that_somebody_else_changed_is_left_alone(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    form = with_paths(operator, {DEADLINE: "2500"})
    open_on(fleet["checkout"], now, {"inbound": {"shedding": {"level": 2}}})

    operator.post(URL, form)

    assert Override.objects.latest("id").patch == {"inbound": {"deadline_ms": 2500}}


BAD = [
    ({DEADLINE: "-5"}, {}, DEADLINE, "outside 1"),
    ({DEADLINE: "soon"}, {}, DEADLINE, "Enter a number (ms), such as 3000."),
    ({DEADLINE: "2500.5"}, {}, DEADLINE, "Enter a whole number (ms), such as 3000."),
    ({DEADLINE: ""}, {}, DEADLINE, "This needs a value"),
    ({DEADLINE: "NaN"}, {}, DEADLINE, "Enter a number"),
    ({DEADLINE: "1e400"}, {}, DEADLINE, "Enter a number"),
    ({BUDGET: "1000"}, {}, BUDGET, "1,000% is outside 0% to 100%"),
    ({BUDGET: "ten"}, {}, BUDGET, "Enter a number (percent), such as 10."),
    ({PER_S: "5"}, {}, BURST, "A limit needs both numbers"),
    ({}, {}, "", "Nothing to apply"),
    ({DEADLINE: "2500"}, {"reason": " "}, "", "Say why"),
    ({DEADLINE: "2500"}, {"reason": "x" * 501}, "", "Use at most 500 characters"),
    ({DEADLINE: "2500"}, {"lasts": "custom", "custom_s": "soon"}, "", "Enter whole seconds"),
    ({DEADLINE: "2500"}, {"lasts": "custom", "custom_s": "4"}, "", "an override lasts 5 s to 8 h"),
    ({DEADLINE: "2500"}, {"lasts": "99999"}, "", "an override lasts 5 s to 8 h"),
    ({"tenant.per_s": "5", "tenant.burst": "5"}, {}, "tenant.name", "Name the tenant"),
    ({"tenant.name": "acme", "tenant.per_s": "5"}, {}, "tenant.burst", "needs both numbers"),
    ({"tenant.name": "a b", "tenant.per_s": "5", "tenant.burst": "5"}, {}, "", "tenant"),
    ({"was:inbound.nonsense": "1", "inbound.nonsense": "2"}, {}, "", "No policy field"),
    ({"was:a[": "1", "a[": "2"}, {}, "", "No policy field"),
]


@pytest.mark.parametrize(
    ("changes", "others", "path", "sentence"), BAD, ids=[f"{n} {b[3]}" for n, b in enumerate(BAD)]
)
def test_bad_input_is_explained_and_stores_nothing(
    operator: Client,
    fleet: Fleet,
    changes: dict[str, str],
    others: dict[str, str],
    path: str,
    sentence: str,
) -> None:
    answer = operator.post(URL, with_paths(operator, changes, **others))
    html = answer.content.decode()

    assert answer.status_code == 422
    assert "Nothing was changed." in html
    assert sentence in words(html)
    if path and not path.startswith("tenant."):
        assert 'aria-invalid="true"' in html
    assert Override.objects.count() == PolicyVersion.objects.count() == 0
    assert Publication.objects.count() == AuditEntry.objects.count() == 0


def test_what_was_typed_survives_a_refusal(operator: Client, fleet: Fleet) -> None:
    answer = operator.post(URL, with_paths(operator, {DEADLINE: "soon", BUDGET: "10.5"}))
    html = answer.content.decode()

    assert re.search(rf'name="{DEADLINE}" value="soon"', html)
    assert re.search(rf'name="{re.escape(BUDGET)}" value="10.5"', html)
    assert re.search(r'value="900" checked', html)
    assert 'value="INC-2291"' in html


def test_a_tenant_can_be_added(operator: Client, fleet: Fleet) -> None:
    tenant = {"tenant.name": "acme", "tenant.per_s": "7.5", "tenant.burst": "5"}

    operator.post(URL, with_paths(operator, tenant))

    assert Override.objects.get().patch == {
        "inbound": {"tenants": {"named": {"acme": {"per_s": 7.5, "burst": 5}}}}
    }


def test_emptying_both_numbers_removes_a_limit(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    limits = {"inbound": {"tenants": {"named": {"acme": {"per_s": 5, "burst": 5}}}}}
    publish_on(fleet["checkout"], now, limits)

    operator.post(URL, with_paths(operator, {ACME_PER_S: "", ACME_BURST: ""}))

    assert Override.objects.get().patch == {"inbound": {"tenants": {"named": {"acme": None}}}}
    assert "acme" not in newest().policy["inbound"]["tenants"]["named"]


def test_an_endpoint_can_get_a_limit_of_its_own(operator: Client, fleet: Fleet) -> None:
    operator.post(URL, with_paths(operator, {PER_S: "30", BURST: "10"}))

    endpoints = newest().policy["inbound"]["endpoints"]
    assert endpoints["POST /orders"]["rate"]["per_s"] == 30


def test_a_link_can_fill_a_change_in(operator: Client, fleet: Fleet) -> None:
    html = operator.get(f"{URL}?section=shedding&inbound.shedding.level=2").content.decode()

    assert 'name="inbound.shedding.level" value="2"' in html
    assert 'name="was:inbound.shedding.level" value="0"' in html
    assert "inbound.shedding.level was 0 → is 2" in words(html)
    assert Override.objects.count() == 0


def test_the_preview_shows_the_effective_change_and_stores_nothing(
    operator: Client, fleet: Fleet
) -> None:
    answer = operator.post(PREVIEW, with_paths(operator, {BUDGET: "20", ATTEMPTS: "2"}))
    html = answer.content.decode()

    assert answer.status_code == 200
    assert 'id="preview-checkout"' in html
    assert f'hx-post="{PREVIEW}"' in html
    assert "2 fields" in html
    assert f"{BUDGET} was 10% → is 20%" in words(html)
    assert Override.objects.count() == 0


def test_the_preview_explains_a_contradiction(operator: Client, fleet: Fleet) -> None:
    base = "outbound.dependencies.payments.retry.backoff.base_ms"

    html = operator.post(PREVIEW, with_paths(operator, {base: "9000"})).content.decode()

    assert "check stop" in html
    assert "base_ms" in words(html)


def test_the_preview_says_what_guardrails_say_of_what_changes(
    operator: Client, fleet: Fleet
) -> None:
    attempt = "outbound.dependencies.payments.timeouts.attempt_ms"

    html = operator.post(PREVIEW, with_paths(operator, {attempt: "600"})).content.decode()
    unwise = operator.post(PREVIEW, with_paths(operator, {attempt: "2900"})).content.decode()

    assert "The deadline of 3000 ms covers 3 attempts of 600 ms" in words(html)
    assert "The deadline of 3000 ms is shorter than 3 attempts of 2900 ms" in words(unwise)
    assert "all tenants" not in words(html)


def test_the_preview_of_a_value_already_in_force_says_so(operator: Client, fleet: Fleet) -> None:
    form = with_paths(operator, {DEADLINE: "3000", f"was:{DEADLINE}": "2000"})

    html = operator.post(PREVIEW, form).content.decode()

    assert "nothing would change" in html


def test_the_preview_of_a_version_names_the_override_over_it(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    open_on(fleet["checkout"], now, {"inbound": {"deadline_ms": 1000}})

    form = with_paths(operator, {DEADLINE: "2500"}, lasts="permanent")
    html = operator.post(PREVIEW, form).content.decode()

    assert "inbound.deadline_ms stays as override" in html


def test_a_viewer_sees_every_value_and_can_change_none(viewer: Client, fleet: Fleet) -> None:
    html = viewer.get(URL).content.decode()

    assert "You can look but not change: viewer." in html
    assert re.search(r'<fieldset class="sections" disabled>', html)
    assert 'id="apply"' not in html


def test_a_viewer_may_not_apply(viewer: Client, fleet: Fleet) -> None:
    answer = viewer.post(URL, {DEADLINE: "2500", f"was:{DEADLINE}": "3000", "reason": "x"})

    assert answer.status_code == 403
    assert "viewer may not do override.open" in answer.content.decode()
    assert Override.objects.count() == 0


def test_a_form_without_its_token_is_refused_and_says_what_to_do(
    operator: Client, fleet: Fleet
) -> None:
    operator.handler.enforce_csrf_checks = True

    answer = operator.post(URL, {"reason": "x"})

    assert answer.status_code == 403
    assert "That form has gone stale" in answer.content.decode()


def test_old_figures_are_marked_on_tune_too(operator: Client, fleet: Fleet, now: datetime) -> None:
    show(now, {"checkout": healthy()}, age_s=120, failing="Connection refused.")

    assert "Old figures" in operator.get(URL).content.decode()


def seen_as(service: str, now: datetime, *agents: str, ago_s: float = 1) -> None:
    for number, agent in enumerate(agents):
        instance = Instance.objects.create(
            environment="prod", service_slug=service, instance_id=f"{service}-{number}-{ago_s:g}",
            first_seen_at=now - timedelta(hours=1), last_seen_at=now - timedelta(seconds=ago_s),
        )  # fmt: skip
        InstanceReport.objects.create(instance=instance, state="applied", sdk=agent)


def test_controls_say_what_an_envoy_does_not_take_live(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    seen_as("checkout", now, "envoy/1.40.0")

    html = operator.get(URL).content.decode()

    assert "Its instance is an Envoy: a change is in force within 2 s" in words(html)
    assert "Envoy" not in control(html, BUDGET)
    assert "Envoy takes this by route discovery, within 3 s." in control(html, ATTEMPTS)
    assert "Envoy takes this by route discovery" in control(html, DEADLINE)
    slow = control(html, "outbound.dependencies.payments.breaker.slow_call_ms")
    assert "Envoy does not take this. It judges calls by failure only" in slow


def test_a_service_with_some_envoys_says_how_many(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    seen_as("checkout", now, "envoy/1.40.0", "tidegate-python/0.1", "envoy/1.39.2")

    assert "2 of its 3 live instances are Envoys" in words(operator.get(URL).content.decode())


def test_nothing_is_said_of_envoys_where_none_lives(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    seen_as("checkout", now, "tidegate-python/0.1")
    seen_as("checkout", now, "envoy/1.40.0", ago_s=600)
    seen_as("payments", now, "envoy/1.40.0")

    assert "Envoy" not in operator.get(URL).content.decode()
