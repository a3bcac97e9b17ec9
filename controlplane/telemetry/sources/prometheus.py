"""Prometheus and everything that speaks its API, through prometheus-api-client.

The library is the transport; this subclass fixes what an overloaded or stuck Prometheus makes of
its defaults: queries travel in the body, every call has connect and read timeouts, only failed
connections are retried (503 is Prometheus' own query timeout: repeating it feeds the overload),
and errors carry Prometheus' words. Uses the library's `_session` and `_timeout`: its version is
pinned and tests cover both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from prometheus_api_client import PrometheusConnect
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from controlplane.kernel.clock import monotonic_s
from controlplane.telemetry.domain.promql import Expression
from controlplane.telemetry.domain.series import Grid, InstantAnswer, RangeAnswer, Sample, Trace
from controlplane.telemetry.sources.port import QueryFailed, QueryRefused, SourceUnavailable
from controlplane.telemetry.sources.recent_failures import RecentFailures
from controlplane.telemetry.sources.single_flight import SingleFlight
from tidegate.breaker import Breaker
from tidegate.clock import Clock
from tidegate.outbound_policy import BreakerMode, BreakerPolicy, WindowKind, WindowPolicy

CONNECT_S = 1.0
READ_S = 4.0
MAX_IN_FLIGHT = 4  # a fifth of Prometheus' default of 20 concurrent queries
WAIT_FOR_TURN_S = 4.0
BREAKER = BreakerPolicy(
    mode=BreakerMode.AUTO,
    window=WindowPolicy(kind=WindowKind.TIME, size=20),
    min_calls=3,
    failure_rate=0.5,
    slow_call_ms=READ_S * 1000,
    slow_call_rate=0.9,
    open_s=4.0,  # under the collector's interval: each tick probes, none waits long
    half_open_calls=1,
)

Answer = TypeVar("Answer")


# What Prometheus answers to a query that takes too long: it is well itself.
TOO_MUCH = frozenset({"timeout", "canceled"})
NOT_AGAIN_S = 15.0
"""A query that takes too long is not asked again for so long: three ticks of the collector.

So that one heavy query, which viewers repeat, is one failure and not the source's death.
"""


@dataclass(frozen=True, slots=True)
class _Body:
    """What stands in an answer."""

    data: dict[str, Any]
    warnings: tuple[str, ...]
    is_partial: bool


class PrometheusSource(PrometheusConnect):  # type: ignore[misc]  # the library has no types
    """One Prometheus-compatible API, protected from us and we from it."""

    name = "Prometheus"

    def __init__(
        self,
        url: str,
        *,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        breaker: BreakerPolicy = BREAKER,
        clock: Clock = monotonic_s,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.url: str  # set by the library
        super().__init__(
            url=url.rstrip("/"), timeout=(connect_s, read_s), headers=dict(headers or {})
        )
        adapter = HTTPAdapter(
            pool_connections=1,
            pool_maxsize=2 * MAX_IN_FLIGHT,
            max_retries=Retry(
                total=1,
                connect=1,
                read=False,
                status=0,
                other=0,
                backoff_factor=0.1,
                allowed_methods=None,
                raise_on_status=False,
            ),
        )
        # The constructor mounted its own adapter on the longest prefix, `url`: replace that one.
        self._session.mount(self.url, adapter)
        self._session.trust_env = False  # a proxy of the machine has no business in between
        self._read_s = read_s
        self._shown = _without_credentials(self.url)
        self._clock = clock
        self._breaker = Breaker(breaker, clock)
        self._last_failure = "Prometheus fails"
        self._failed = RecentFailures(NOT_AGAIN_S, clock)
        self._turns = BoundedSemaphore(MAX_IN_FLIGHT)
        self._flights: SingleFlight[_Body] = SingleFlight()

    def instant(self, query: Expression, at_s: float) -> InstantAnswer:
        """Evaluate `query` at one time; see `SignalSource.instant`."""
        form = {"query": query.text, "time": _number(at_s)}
        body = self._shared("/api/v1/query", form)
        return _read(
            body.data,
            lambda result: InstantAnswer(_samples(result), body.warnings, body.is_partial),
        )

    def range(self, query: Expression, grid: Grid) -> RangeAnswer:
        """Evaluate `query` over a grid; see `SignalSource.range`."""
        form = {
            "query": query.text,
            "start": str(grid.start_s),
            "end": str(grid.end_s),
            "step": str(grid.step_s),
        }
        body = self._shared("/api/v1/query_range", form)
        return _read(
            body.data, lambda result: RangeAnswer(_traces(result), body.warnings, body.is_partial)
        )

    def _shared(self, path: str, form: dict[str, str]) -> _Body:
        key = (path, *sorted(form.items()))
        return self._flights.do(key, lambda: self._guarded(path, form))

    def _guarded(self, path: str, form: dict[str, str]) -> _Body:
        question = path + "\n" + form["query"]
        self._failed.check(question)
        if not self._turns.acquire(timeout=WAIT_FOR_TURN_S):
            raise SourceUnavailable(
                "Tidegate already has " + str(MAX_IN_FLIGHT) + " queries waiting for Prometheus"
            )
        try:
            permit = self._breaker.allow()
            if permit is None:
                raise SourceUnavailable(
                    self._last_failure + "; it is not asked again yet",
                    retry_after_s=max(1.0, self._breaker.retry_after_s),
                )
            started_s = self._clock()
            try:
                answer = self._post(path, form)
            except _TooMuch as error:
                # It answered, and said that this query is too much for it.
                self._breaker.record(True, 0.0, permit)
                self._failed.note(question, error.message)
                raise
            except SourceUnavailable as error:
                if isinstance(error, _Hung):
                    self._failed.note(question, error.message)
                self._last_failure = error.message
                self._breaker.record(False, self._clock() - started_s, permit)
                raise
            except QueryRefused:
                # It answered: what it refuses says nothing about its health.
                self._breaker.record(True, self._clock() - started_s, permit)
                raise
            except BaseException:
                self._breaker.cancel(permit)
                raise
            self._breaker.record(True, self._clock() - started_s, permit)
            return answer
        finally:
            self._turns.release()

    def _post(self, path: str, form: dict[str, str]) -> _Body:
        # Prometheus gives up before we do, and then says why.
        form = form | {"timeout": str(round(self._read_s * 0.8 * 1000)) + "ms"}
        try:
            response = self._session.post(
                self.url + path,
                data=form,
                headers=self.headers,
                auth=self.auth,
                timeout=self._timeout,
                allow_redirects=False,
            )
        except requests.ReadTimeout as error:
            raise _Hung(
                "Prometheus accepted a query and did not answer within "
                + _number(self._read_s)
                + " s"
            ) from error
        except requests.Timeout as error:
            raise SourceUnavailable(
                "Prometheus at " + self._shown + " does not accept connections"
            ) from error
        except requests.RequestException as error:
            raise SourceUnavailable(
                "Prometheus at " + self._shown + " cannot be reached: " + _cause(error)
            ) from error
        return _unwrap(response)


class _TooMuch(QueryFailed):
    """The source said that this query takes too long."""


class _Hung(QueryFailed):
    """The source took this query and said nothing."""


def _unwrap(response: requests.Response) -> _Body:
    body = _json_object(response)
    status = response.status_code
    if status == 200 and body.get("status") == "success" and isinstance(body.get("data"), dict):
        warnings = tuple(str(note) for note in body.get("warnings") or ())
        is_partial = body.get("isPartial") is True  # VictoriaMetrics
        notes = ("The answer is partial: a part of the store did not answer.",) * is_partial
        infos = tuple(str(note) for note in body.get("infos") or ())
        return _Body(
            body["data"],
            (*notes, *warnings, *infos),
            # Thanos and Mimir name what they left out in a warning; PromQL's own begin so.
            is_partial or any(not note.startswith("PromQL ") for note in warnings),
        )
    kind = str(body.get("errorType", ""))
    words = str(body.get("error") or response.text[:300]).strip() or "no explanation"
    if kind in TOO_MUCH:
        raise _TooMuch("Prometheus gave a query up (" + kind + "): " + words)
    if status in (400, 404, 405, 422) and kind != "unavailable":
        raise QueryRefused("Prometheus refused a query (" + (kind or str(status)) + "): " + words)
    raise QueryFailed("Prometheus answered " + str(status) + ": " + words)


def _json_object(response: requests.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except requests.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _read(data: Mapping[str, Any], build: Callable[[list[Any]], Answer]) -> Answer:
    try:
        result = data["result"]
        if data.get("resultType") not in ("vector", "matrix"):
            raise QueryRefused(
                "Prometheus answered with a " + str(data.get("resultType")) + ", not with series"
            )
        return build(result)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SourceUnavailable("Prometheus sent an answer that is not one of its API") from error


def _samples(result: list[Any]) -> tuple[Sample, ...]:
    samples = (Sample(series["metric"], float(series["value"][1])) for series in result)
    return tuple(sample for sample in samples if math.isfinite(sample.value))


def _traces(result: list[Any]) -> tuple[Trace, ...]:
    return tuple(
        Trace(
            series["metric"],
            tuple(
                (float(at_s), value)
                for at_s, text in series["values"]
                if math.isfinite(value := float(text))
            ),
        )
        for series in result
    )


def _without_credentials(url: str) -> str:
    """`url` as pages may show it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _number(value: float) -> str:
    return format(value, ".3f").rstrip("0").rstrip(".")


def _cause(error: BaseException) -> str:
    """The innermost reason in a chain of wrapped connection errors."""
    reason: BaseException = error
    while True:
        inner = getattr(reason, "reason", None) or (reason.args[0] if reason.args else None)
        if not isinstance(inner, BaseException):
            break
        reason = inner
    text = str(reason)
    return text.rpartition(": ")[2] or type(reason).__name__
