"""Say which signals each service lacks, and what would bring them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings

from controlplane.telemetry.domain.dialects import native
from controlplane.telemetry.domain.dialects.native import Reading, fleet_queries
from controlplane.telemetry.domain.series import Sample, aligned_time
from controlplane.telemetry.services.fleet import read_fleet
from controlplane.telemetry.sources.port import QueryRefused, SignalSource

_WHY = {
    Reading.REQUESTS: "no requests are measured: is the middleware installed, and was it called?",
    Reading.LATENCY: "no latency histogram: the server metric is not exported as a histogram",
    Reading.READY: "no readiness: is /metrics of its instances scraped, with the right labels?",
    Reading.INFLIGHT: "no requests in flight: the SDK's middleware is not installed",
    Reading.CONFIG_SEQUENCE: "no policy sequence: the SDK's policy client is not running",
    Reading.REJECTED: "no rejections are counted: the SDK's middleware is not installed",
}
_WHY_OUTBOUND = {
    Reading.CLIENT_REQUESTS: "no outbound requests: calls do not go through the SDK's transport",
    Reading.CLIENT_ATTEMPTS: "no outbound attempts: calls do not go through the SDK's transport",
    Reading.BREAKER_STATES: "no breaker states: calls do not go through the SDK's transport",
}


@dataclass(frozen=True, slots=True)
class ServiceCheck:
    """One service: how many readings it has, and a sentence for each one it should have."""

    name: str
    found: int
    missing: tuple[str, ...]

    @property
    def summary(self) -> str:
        """One line for a person."""
        if not self.found:
            return "no series at all: nothing with this service label is scraped"
        return str(self.found) + " of " + str(len(Reading)) + " readings have series"


@dataclass(frozen=True, slots=True)
class SignalReport:
    """Every service that is registered or has series, by name."""

    services: tuple[ServiceCheck, ...]
    problems: tuple[str, ...]

    @property
    def has_silent_services(self) -> bool:
        """Whether some service has no series at all."""
        return any(not service.found for service in self.services)


def check_signals(*, environment: str, source: SignalSource, now: datetime) -> SignalReport:
    """Ask for every reading once and report what each service lacks.

    Raises:
        SourceUnavailable: Prometheus does not answer.
    """
    tidegate = settings.TIDEGATE
    at_s = aligned_time(now.timestamp(), 1, tidegate.scrape_interval_s)
    names: dict[Reading, set[str]] = {}
    problems: list[str] = []
    for reading, query in fleet_queries(environment, tidegate.rate_window_s).items():
        try:
            answer = source.instant(query, at_s)
        except QueryRefused as refusal:
            problems.append(reading.value + ": " + refusal.message)
            continue
        names[reading] = _services(answer.samples)
        problems.extend(answer.warnings)
    fleet = read_fleet(environment)
    callers = {caller for caller, _ in fleet.targets}
    everyone = sorted(set(fleet.services).union(*names.values()))
    return SignalReport(
        services=tuple(_check(name, names, calls_others=name in callers) for name in everyone),
        problems=(*dict.fromkeys(problems), *fleet.problems),
    )


def _check(name: str, names: dict[Reading, set[str]], *, calls_others: bool) -> ServiceCheck:
    expected = _WHY | (_WHY_OUTBOUND if calls_others else {})
    found = sum(name in services for services in names.values())
    missing = tuple(
        reading.value + ": " + why
        for reading, why in expected.items()
        if reading in names and name not in names[reading]
    )
    return ServiceCheck(name, found, missing if found else ())


def _services(samples: tuple[Sample, ...]) -> set[str]:
    return {sample.labels.get(native.SERVICE, "") for sample in samples} - {""}
