"""The words of the Changes page: which override wins, what a revert gives, and long reasons."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import pytest
from django.contrib import admin
from django.test import Client

from controlplane.policies.services import revert_override
from controlplane.registry.models import Service
from tests.access.actors import OPERATOR
from tests.policies.builders import deadline, newest, open_on, publish_on, shed

Fleet = dict[str, Service]
IN_FORCE = "/changes/regions/in-force"
ROOT = Path(__file__).resolve().parents[2]
CSS = ROOT / "dashboards/static/dashboards/css"
TEMPLATES = ROOT / "templates"


def words(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def row_of(client: Client, override_id: int) -> str:
    html = client.get(IN_FORCE).content.decode()
    rows = html.split('<tr role="row">')
    return words(next(row for row in rows if f'id="in-force-{override_id}"' in row))


def test_an_override_that_another_beats_says_which_and_what_is_in_force(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    first = open_on(fleet["checkout"], now, shed(2))
    second = open_on(fleet["checkout"], now, shed(3))

    assert f"Not in force: override {second.pk} sets inbound.shedding.level to 3" in row_of(
        operator, first.pk
    )
    assert "A revert changes nothing now." in row_of(operator, first.pk)
    assert "Not in force" not in row_of(operator, second.pk)
    assert "A revert gives inbound.shedding.level 2." in row_of(operator, second.pk)


def test_an_override_that_is_beaten_in_part_says_in_which_part(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    first = open_on(fleet["checkout"], now, {"inbound": {**shed(2)["inbound"], "deadline_ms": 900}})
    second = open_on(fleet["checkout"], now, shed(3))

    text = row_of(operator, first.pk)

    assert f"Not in force: override {second.pk} sets inbound.shedding.level to 3" in text
    assert "A revert gives inbound.deadline_ms 3,000 ms." in text


def test_an_override_that_removes_a_limit_is_beaten_by_one_that_sets_it(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    limit = {"inbound": {"tenants": {"named": {"acme": {"per_s": 5, "burst": 5}}}}}
    publish_on(fleet["checkout"], now, limit)
    first = open_on(fleet["checkout"], now, {"inbound": {"tenants": {"named": {"acme": None}}}})
    open_on(fleet["checkout"], now, limit)

    assert "Not in force: override" in row_of(operator, first.pk)


def test_what_a_revert_gives_is_the_version_as_it_is_now(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now, deadline(900))
    publish_on(fleet["checkout"], now, deadline(2000))

    assert "A revert gives inbound.deadline_ms 2,000 ms." in row_of(operator, override.pk)


def test_a_reverted_override_has_no_until(operator: Client, fleet: Fleet, now: datetime) -> None:
    override = open_on(fleet["checkout"], now)
    assert "override opened, until 03:14:00" in words(operator.get("/changes/").content.decode())
    later = now + timedelta(seconds=9)
    revert_override(actor=OPERATOR, override=override, reason="done", now=later)

    text = words(operator.get("/changes/regions/history").content.decode())

    assert "override reverted" in text
    assert "override reverted, until" not in text


def test_a_change_that_was_reverted_does_not_say_that_it_ends_by_itself(
    operator: Client, fleet: Fleet, now: datetime
) -> None:
    override = open_on(fleet["checkout"], now)
    revert_override(actor=OPERATOR, override=override, reason="done", now=now)

    text = words(operator.get(f"/changes/{newest().sequence}/").content.decode())

    assert "reverts by itself" not in text


@pytest.mark.parametrize("model", admin.site._registry, ids=lambda model: model.__name__)
def test_the_admin_pages_spell_plurals(model: type) -> None:
    plural = str(model._meta.verbose_name_plural)  # type: ignore[attr-defined]

    assert not re.search(r"[^aeiou]ys$", plural), plural


def test_text_that_people_write_breaks_wherever_it_must() -> None:
    """A URL as a reason has no space to break at."""
    css = (CSS / "base.css").read_text() + (CSS / "components.css").read_text()
    history = (TEMPLATES / "changes/_history.html").read_text()

    assert re.search(r"\.page \{[^}]*overflow-wrap: anywhere", css)
    assert ".table .said, .name small, td small { overflow-wrap: anywhere; }" in css
    assert 'class="full said" data-label="Why">{{ row.reason }}' in history
