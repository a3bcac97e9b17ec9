"""OpenFeature's own OFREP provider against the delivery plane over HTTP.

What docs/adapters/openfeature.md tells people to write is what is run here.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from controlplane.delivery.hotpath.auth import RateLimit
from tests.delivery.adapters import World, features, world
from tests.delivery.builders import CHECKOUT_TOKEN, snapshot, token_record
from tests.delivery.served import Served, serving
from tests.waiting import HUNG_S

ROOT = Path(__file__).resolve().parents[2]
FEATURES: dict[str, Any] = {
    "recommendations": {"off_at_level": 1},
    "reviews": {"enabled": False},
    "search": {},
}


@pytest.fixture
def here() -> World:
    return world(features(0, **FEATURES))


@pytest.fixture
def served(here: World) -> Iterator[Served]:
    with serving(here) as running:
        yield running


@pytest.fixture
def client(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenFeatureClient]:
    """The client of the documentation's snippet."""
    monkeypatch.setenv("TIDEGATE_URL", served.url)
    monkeypatch.setenv("TIDEGATE_TOKEN", CHECKOUT_TOKEN)
    monkeypatch.delenv("HOSTNAME", raising=False)  # shells set it, and hand it on to nobody
    page = (ROOT / "docs/adapters/openfeature.md").read_text()
    snippet = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert snippet is not None
    names: dict[str, Any] = {}
    exec(compile(snippet[1], "openfeature.md", "exec"), names)
    names["provider"].timeout = HUNG_S  # its own 5 s are for who would rather have the default
    yield names["client"]
    names["provider"].session.close()
    api.clear_providers()


def shed(here: World, served: Served, level: int, *, sequence: int) -> None:
    """Publish the same features at another shed level."""
    published = snapshot(sequence, policy=features(level, **FEATURES))
    served.do(lambda: here.publish(published))


def test_the_snippet_of_the_documentation_follows_the_shed_level(
    here: World, served: Served, client: OpenFeatureClient
) -> None:
    def is_on() -> bool:
        return client.get_boolean_value("recommendations", True)

    before = is_on()
    shed(here, served, 1, sequence=8)
    during = is_on()
    shed(here, served, 0, sequence=9)

    assert (before, during, is_on()) == (True, False, True)


def test_the_evaluation_says_why_and_by_which_publication(
    here: World, served: Served, client: OpenFeatureClient
) -> None:
    shed(here, served, 2, sequence=8)

    off = client.get_boolean_details("recommendations", True)
    disabled = client.get_boolean_details("reviews", True)
    static = client.get_boolean_details("search", False)

    assert (off.value, off.reason, off.variant) == (False, Reason.TARGETING_MATCH, "off")
    assert off.flag_metadata == {
        "enabled": True, "shed_level": 2, "off_at_level": 1, "decided_by": "off_at_level",
        "sequence": 8, "version": 3, "cohort": "stable",
    }  # fmt: skip
    assert (disabled.value, disabled.reason) == (False, Reason.DISABLED)
    assert (static.value, static.reason) == (True, Reason.STATIC)


def test_flags_of_every_type_are_read(
    here: World, served: Served, client: OpenFeatureClient
) -> None:
    shed(here, served, 2, sequence=8)

    assert client.get_integer_value("tidegate:shed_level", -1) == 2
    assert client.get_string_value("tidegate:default_criticality", "?") == "critical"
    assert client.get_object_value("tidegate:sheds", {}) == {
        "sheddable": True, "sheddable_plus": True, "critical": False, "critical_plus": False,
    }  # fmt: skip


def test_a_flag_of_another_type_gives_the_default_of_the_code(client: OpenFeatureClient) -> None:
    text = client.get_string_details("recommendations", "code")
    number = client.get_boolean_details("tidegate:shed_level", True)

    assert (text.value, text.error_code) == ("code", ErrorCode.TYPE_MISMATCH)
    assert (number.value, number.error_code) == (True, ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize("key", ["serach", "no such flag", "tidegate:what", "a/b", "ü"])
def test_an_unknown_flag_gives_the_default_of_the_code(client: OpenFeatureClient, key: str) -> None:
    details = client.get_boolean_details(key, True)

    assert (details.value, details.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert details.error_message == f"the policy of checkout in prod has no {key!r}"


def test_a_context_may_hold_anything(client: OpenFeatureClient) -> None:
    context = EvaluationContext("user-7", {"plan": {"name": "gold", "since": [2026, 11]}})

    assert client.get_boolean_value("recommendations", False, context) is True


def test_an_invalid_context_gives_the_default_and_says_what_is_wrong(
    client: OpenFeatureClient,
) -> None:
    context = EvaluationContext(attributes={"tidegateInstance": 7})

    details = client.get_boolean_details("recommendations", False, context)

    assert (details.value, details.error_code) == (False, ErrorCode.INVALID_CONTEXT)
    assert details.error_message == "context.tidegateInstance: expected text"


def test_a_revoked_token_gives_the_default_and_a_new_one_works_at_once(
    here: World, served: Served, client: OpenFeatureClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shed(here, served, 1, sequence=8)
    served.do(lambda: here.tokens.replace([token_record("tgs_" + "d" * 43, "checkout")]))

    revoked = client.get_boolean_details("recommendations", True)
    monkeypatch.setenv("TIDEGATE_TOKEN", "tgs_" + "d" * 43)
    renewed = client.get_boolean_details("recommendations", True)

    assert (revoked.value, revoked.error_code) == (True, ErrorCode.GENERAL)
    assert revoked.error_message == "unauthorized"
    assert (renewed.value, renewed.error_code) == (False, None)


def test_the_instance_is_reported_with_what_it_evaluates_by(
    here: World, served: Served, client: OpenFeatureClient
) -> None:
    client.get_boolean_value("recommendations", True)

    (note,) = served.do(here.reports.take)
    assert (note.instance_id, [mark.etag for mark in note.marks]) == (
        socket.gethostname(),
        ["7-0-9f3c"],
    )
    assert note.sdk.startswith("python-requests/")


def test_a_provider_that_asks_too_often_waits_as_long_as_it_is_told() -> None:
    here = world(features(1, **FEATURES), limit=RateLimit(per_s=0.01, burst=1))
    with serving(here) as served:
        provider = OFREPProvider(
            served.url,
            headers_factory=lambda: {"Authorization": f"Bearer {CHECKOUT_TOKEN}"},
            timeout=HUNG_S,
        )
        api.set_provider(provider, "impatient")
        impatient = api.get_client("impatient")
        try:
            details = [impatient.get_boolean_details("recommendations", True) for _ in range(4)]
        finally:
            provider.session.close()
            api.clear_providers()

    assert (details[0].value, details[0].error_code) == (False, None)
    refused = [each for each in details if each.error_code is ErrorCode.GENERAL]
    assert refused
    assert "Rate limited" in str(refused[0].error_message)
    assert "evaluation paused due to TooManyRequests" in str(refused[-1].error_message)
    assert provider.retry_after is not None


def test_a_provider_that_polls_is_sent_the_flags_only_when_they_changed(
    here: World, served: Served
) -> None:
    """What polling providers do (there is none in Python): all flags, on the tag they have."""
    headers = {"Authorization": f"Bearer {CHECKOUT_TOKEN}", "Tidegate-Instance": "web-1"}
    with requests.Session() as session:

        def poll(tag: str | None) -> requests.Response:
            condition = {} if tag is None else {"If-None-Match": tag}
            return session.post(
                f"{served.url}/ofrep/v1/evaluate/flags",
                json={"context": {"targetingKey": "user-7"}},
                headers={**headers, **condition},
                timeout=HUNG_S,
            )

        first = poll(None)
        again = poll(first.headers["ETag"])
        shed(here, served, 1, sequence=8)
        changed = poll(first.headers["ETag"])

    assert [first.status_code, again.status_code, changed.status_code] == [200, 304, 200]
    assert again.content == b""
    assert first.json()["flags"][0]["value"] is True
    assert changed.json()["flags"][0]["value"] is False
