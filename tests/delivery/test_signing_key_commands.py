"""`manage.py signing_keys`."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from controlplane.access.models import AuditEntry
from controlplane.delivery.models import SigningKey
from controlplane.delivery.services.signing_keys import ensure_signing_key
from controlplane.kernel.clock import utc_now
from tests.access.actors import ADMIN

pytestmark = pytest.mark.django_db


def say(*arguments: str) -> str:
    out = StringIO()
    call_command("signing_keys", *arguments, stdout=out)
    return out.getvalue()


def test_a_key_is_listed_rotated_and_withdrawn() -> None:
    first = ensure_signing_key(actor=ADMIN, now=utc_now() - timedelta(hours=1))

    rotated = say("rotate", "--reason", "yearly", "--lead-s", "300")
    second = SigningKey.objects.get(retired_at=None)
    listed = say("list").splitlines()
    withdrawn = say("withdraw", first.kid, "--reason", "stolen")

    assert rotated.startswith(f"{second.kid} signs from ")
    assert [line.split()[0] for line in listed] == ["active", "next"]
    assert f"kid {first.kid}" in listed[0]
    assert withdrawn.startswith(f"{second.kid} signs now.")
    assert "re-pinned" in withdrawn
    assert [line.split()[0] for line in say("list").splitlines()] == ["withdrawn", "active"]
    assert AuditEntry.objects.get(action="signing_key.rotated").actor == "command line"


def test_keys_are_resealed_with_the_present_secret(tmp_path: Path, settings: Any) -> None:
    ensure_signing_key(actor=ADMIN, now=utc_now())
    old = tmp_path / "old"
    old.write_text(settings.TIDEGATE_SIGNING_SECRET + "\n")
    settings.TIDEGATE_SIGNING_SECRET = "n" * 64

    said = say("reseal", "--old-secret-file", str(old), "--reason", "leaked")

    assert said == "1 key sealed with the present secret\n"
    assert "signs from" in say("rotate", "--reason", "now it can endorse")


def test_without_a_key_the_list_says_who_makes_one() -> None:
    assert "first delivery process" in say("list")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rotate", "--reason", "x"], "no signing key yet"),
        (["rotate", "--reason", "x", "--lead-s", "1e300"], "must be a number of seconds"),
        (["rotate", "--reason", "x", "--lead-s", "nan"], "must be a number of seconds"),
        (["rotate", "--reason", "x", "--lead-s", "1"], "lead must be 2 minutes to 30 days"),
        (["reseal", "--old-secret-file", "/nowhere", "--reason", "x"], "cannot be read"),
        (["withdraw", "unknown", "--reason", "x"], "no signing key 'unknown'"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        say(*arguments)
