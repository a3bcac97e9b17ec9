from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.registry.models import Service
from tests.policies.builders import backoff, deadline, open_on, publish_on, shed


def test_lint_accepts_a_good_policy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = tmp_path / "good.json"
    good.write_text(json.dumps(deadline(2000)))

    call_command("policy_lint", str(good))

    assert capsys.readouterr().out == f"{good}: ok\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"{", "JSON"),
        (b'{"inbound": {"deadline_ms": "2000"}}', "inbound.deadline_ms: "),
        (json.dumps(backoff(base_ms=9000, max_ms=100)).encode(), "outbound.defaults.retry.backoff"),
        (b"\xff{}", "UTF-8"),
    ],
    ids=["syntax", "type", "contradiction", "encoding"],
)
def test_lint_names_what_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: bytes, found: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(text)

    with pytest.raises(CommandError, match="1 problem found"):
        call_command("policy_lint", str(bad))

    assert found in capsys.readouterr().out


def test_lint_says_which_file_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"nope\.json cannot be read: No such file"):
        call_command("policy_lint", str(tmp_path / "nope.json"))


def test_explain_names_the_layer_of_each_value_and_what_it_beat(
    checkout: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    now = datetime.now(UTC)
    publish_on(checkout, now, shed(1))
    override = open_on(checkout, now, shed(3))

    call_command("policy_explain", "checkout", "--path", "inbound.shedding")

    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(
        f"inbound.shedding.level = 3  (override {override.pk}; beats v1: 1; beats "
    )


def test_explain_prints_the_complete_policy_as_json(
    checkout: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("policy_explain", "checkout", "--json")

    assert json.loads(capsys.readouterr().out)["inbound"]["deadline_ms"] == 3000


def test_explain_says_what_does_not_exist(checkout: Service) -> None:
    with pytest.raises(CommandError, match="prod has no registered service 'nope'"):
        call_command("policy_explain", "nope")
