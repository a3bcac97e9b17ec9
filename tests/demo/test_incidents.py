"""Incidents: a file that services watch, and what each incident does."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings as DjangoSettings

from demo import faults
from demo.fleet import FLEET


def test_nothing_is_wrong_unless_an_incident_is_on(tmp_path: Path) -> None:
    assert faults.read_active(tmp_path) == frozenset()
    assert faults.fault_of("fraud", faults.read_active(tmp_path)) == faults.Fault()


def test_an_incident_that_was_switched_on_is_read_back(tmp_path: Path) -> None:
    faults.write_active(tmp_path, ["retry_storm"])

    assert faults.read_active(tmp_path) == {"retry_storm"}


def test_an_unknown_incident_changes_nothing_and_says_what_there_is(tmp_path: Path) -> None:
    faults.write_active(tmp_path, ["hot_tenant"])

    with pytest.raises(faults.UnknownIncident, match="no incident is named 'earthquake'; there"):
        faults.write_active(tmp_path, ["hot_tenant", "earthquake"])

    assert faults.read_active(tmp_path) == {"hot_tenant"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"active": null}', '{"active": ["earthquake"]}'])
def test_a_broken_file_means_that_nothing_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / faults.FILE_NAME).write_text(text)

    assert faults.read_active(tmp_path) == frozenset()


def test_a_watch_reports_a_change_once(tmp_path: Path) -> None:
    watch = faults.FaultWatch(tmp_path)

    assert not watch.look()
    faults.write_active(tmp_path, ["error_burst"])
    assert watch.look()
    assert not watch.look()
    assert watch.active == {"error_burst"}


def test_every_fault_hits_a_service_of_the_fleet() -> None:
    services = {service.name for service in FLEET}

    assert {name for incident in faults.INCIDENTS for name in incident.faults} <= services


def test_faults_of_several_incidents_add_up() -> None:
    slow = faults.fault_of("fraud", {"slow_dependency"})
    both = faults.fault_of("fraud", {"slow_dependency", "error_burst"})

    assert slow == both
    assert slow.extra_median_ms == 800
    assert faults.fault_of("inventory", {"error_burst"}).error_ratio == pytest.approx(0.45)


def test_only_a_hot_tenant_sends_more() -> None:
    assert faults.tenant_factors_of({"retry_storm"}) == {}
    assert faults.tenant_factors_of({"hot_tenant"}) == {"acme": 6.0}


def test_latencies_are_log_normal_around_their_median() -> None:
    chance = random.Random(3)

    drawn = sorted(faults.sample_ms(40, 0.5, chance) for _ in range(2001))

    assert drawn[1000] == pytest.approx(40, rel=0.1)
    assert drawn[-1] > 120
    assert faults.sample_ms(0, 0.5, chance) == 0


def test_the_command_switches_incidents(
    tmp_path: Path, settings: DjangoSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.TIDEGATE = Settings(tmp_path)
    (tmp_path / "fleet.json").write_text("{}")

    call_command("incident", "start", "retry_storm")
    call_command("incident", "list")
    shown = capsys.readouterr().out
    call_command("incident", "stop")

    assert "retry_storm is on: payments slows down" in shown
    assert "What helps: on checkout, set the retry budget" in shown
    assert "on   retry_storm" in shown
    assert "off  hot_tenant" in shown
    assert json.loads((tmp_path / faults.FILE_NAME).read_text()) == {"active": []}


def test_the_command_refuses_an_unknown_incident(tmp_path: Path, settings: DjangoSettings) -> None:
    settings.TIDEGATE = Settings(tmp_path)
    (tmp_path / "fleet.json").write_text("{}")

    with pytest.raises(CommandError, match="no incident is named 'fire'"):
        call_command("incident", "start", "fire")


def test_the_command_refuses_settings_that_are_not_for_a_demo(settings: DjangoSettings) -> None:
    settings.TIDEGATE_ALLOW_DEMO = False

    with pytest.raises(CommandError, match="exist only in the demo"):
        call_command("incident", "list")


def test_the_command_says_how_to_start_a_fleet_that_never_ran(
    tmp_path: Path, settings: DjangoSettings
) -> None:
    settings.TIDEGATE = Settings(tmp_path)

    with pytest.raises(CommandError, match="start it with: make up"):
        call_command("incident", "list")


class Settings:
    """The one setting that the command reads."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
