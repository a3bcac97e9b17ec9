from __future__ import annotations

from datetime import datetime

import pytest
from django.core.management import CommandError, call_command

from controlplane.registry.models import Environment, Service
from controlplane.telemetry.management.commands import signal_check
from controlplane.telemetry.services.check import check_signals
from controlplane.telemetry.sources.fake import FakeSource
from controlplane.telemetry.sources.port import QueryRefused, SourceUnavailable
from tests.telemetry.samples import fleet_rows

pytestmark = pytest.mark.django_db


def test_a_registered_service_without_series_is_named(checkout: Service, now: datetime) -> None:
    report = check_signals(environment="prod", source=FakeSource(), now=now)

    assert [service.summary for service in report.services] == [
        "no series at all: nothing with this service label is scraped"
    ]
    assert report.has_silent_services


def test_each_missing_signal_comes_with_what_would_bring_it(
    checkout: Service, now: datetime
) -> None:
    rows = fleet_rows(["checkout"])
    del rows["tidegate_ready"]

    report = check_signals(environment="prod", source=FakeSource(rows), now=now)

    (service,) = report.services
    assert any(line.startswith("ready: no readiness: is /metrics") for line in service.missing)
    assert not report.has_silent_services


def test_a_refused_query_is_a_problem_of_prometheus_not_of_the_service(now: datetime) -> None:
    source = FakeSource(fleet_rows(["checkout"]))
    source.failures["tidegate_ready"] = QueryRefused("too many samples")

    report = check_signals(environment="prod", source=source, now=now)

    assert "ready: too many samples" in report.problems
    assert not any(line.startswith("ready") for line in report.services[0].missing)


def test_the_command_says_in_one_line_that_prometheus_is_down(
    prod: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FakeSource()
    source.failure = SourceUnavailable("Prometheus cannot be reached: Connection refused")
    monkeypatch.setattr(signal_check, "signal_source", lambda: source)

    with pytest.raises(CommandError, match="cannot be reached"):
        call_command("signal_check")


def test_the_command_names_an_environment_that_does_not_exist(db: None) -> None:
    with pytest.raises(CommandError, match="moon"):
        call_command("signal_check", environment="moon")
