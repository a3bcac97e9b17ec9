from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs

import pytest

from controlplane.telemetry.domain.promql import Expression, equal, select
from controlplane.telemetry.domain.series import Grid, Sample
from controlplane.telemetry.sources import prometheus
from controlplane.telemetry.sources.port import QueryFailed, QueryRefused, SourceUnavailable
from controlplane.telemetry.sources.prometheus import (
    BREAKER,
    MAX_IN_FLIGHT,
    NOT_AGAIN_S,
    PrometheusSource,
)
from tests.ports import find_free_port
from tests.telemetry.prometheus_server import http_server, reply
from tests.waiting import HUNG_S, wait_until

UP = select("up")
VECTOR = {
    "status": "success",
    "data": {
        "resultType": "vector",
        "result": [
            {"metric": {"service": "checkout"}, "value": [1.0, "2.5"]},
            {"metric": {"service": "idle"}, "value": [1.0, "NaN"]},
        ],
    },
}


def answering(body: object, status: int = 200) -> Callable[[BaseHTTPRequestHandler, str], None]:
    return lambda handler, _form: reply(handler, status, json.dumps(body), "application/json")


@contextmanager
def source_of(url: str, **options: object) -> Iterator[PrometheusSource]:
    """A source that no slow machine makes give up: its clock stands, and its bounds are wide."""
    patient: dict[str, object] = {"connect_s": HUNG_S, "read_s": HUNG_S, "clock": lambda: 0.0}
    source = PrometheusSource(url, **patient | options)  # type: ignore[arg-type]
    try:
        yield source
    finally:
        source.close()


@contextmanager
def let_go_at_last(event: threading.Event) -> Iterator[None]:
    """Whoever waits for `event` is let go when the block ends, whatever happened in it."""
    try:
        yield
    finally:
        event.set()


def attempts(source: PrometheusSource) -> int:
    """How often a request was sent, or tried to be, on the connections of this source."""
    pools = source._session.get_adapter(source.url).poolmanager.pools
    return sum(pools[key].num_requests for key in pools.keys())  # noqa: SIM118 (no mapping)


def test_missing_values_are_left_out_and_warnings_are_kept() -> None:
    body = VECTOR | {"warnings": ["a store did not answer"], "infos": ["metric might be a gauge"]}
    with http_server(answering(body)) as url, source_of(url) as source:
        answer = source.instant(UP, 1.0)

    assert answer.samples == (Sample({"service": "checkout"}, 2.5),)
    assert answer.warnings == ("a store did not answer", "metric might be a gauge")


def test_a_long_query_travels_in_the_body_with_a_time_limit() -> None:
    seen: list[tuple[str, dict[str, list[str]]]] = []

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        seen.append((handler.path, parse_qs(form)))
        answering(VECTOR)(handler, form)

    query = select("up", equal("service", "x" * 5000))
    with http_server(answer) as url, source_of(url + "/prefix/", read_s=50.0) as source:
        source.instant(query, 1793585640.0)

    path, form = seen[0]
    assert path == "/prefix/api/v1/query"
    assert form["query"] == [query.text]
    assert form["time"] == ["1793585640"]
    assert form["timeout"] == ["40000ms"]


def test_a_range_asks_for_the_aligned_grid() -> None:
    seen: list[dict[str, list[str]]] = []
    matrix = {
        "status": "success",
        "data": {
            "resultType": "matrix",
            "result": [{"metric": {}, "values": [[0, "1"], [15, "NaN"], [30, "3"]]}],
        },
    }

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        seen.append(parse_qs(form))
        answering(matrix)(handler, form)

    with http_server(answer) as url, source_of(url) as source:
        found = source.range(UP, Grid(0, 30, 15))

    assert (seen[0]["start"], seen[0]["end"], seen[0]["step"]) == (["0"], ["30"], ["15"])
    assert found.traces[0].points == ((0.0, 1.0), (30.0, 3.0))


@pytest.mark.parametrize(
    ("status", "kind", "error", "expected"),
    [
        (400, "bad_data", "parse error: unexpected end", QueryRefused),
        (422, "execution", "query processing would load too many samples", QueryRefused),
        (503, "timeout", "query timed out in expression evaluation", QueryFailed),
        (503, "unavailable", "TSDB not ready", QueryFailed),
        (422, "canceled", "query was canceled", QueryFailed),
    ],
    ids=["bad query", "too many samples", "query timeout", "starting", "cancelled"],
)
def test_a_refusal_carries_the_words_of_prometheus_and_is_not_repeated(
    status: int, kind: str, error: str, expected: type[Exception]
) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        asked.append(form)
        body = {"status": "error", "errorType": kind, "error": error}
        answering(body, status)(handler, form)

    with (
        http_server(answer) as url,
        source_of(url) as source,
        pytest.raises(expected, match=error),
    ):
        source.instant(UP, 1.0)

    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, "<html>bad gateway</html>", "text/html"),
        (200, "<html>a login page</html>", "text/html"),
        (200, '{"status": "success", "data": {"resultType": "vector"}}', "application/json"),
        (200, '{"status": "success", "data": []}', "application/json"),
        (200, "[1]", "application/json"),
    ],
)
def test_an_answer_that_is_not_prometheus_is_no_answer(status: int, body: str, kind: str) -> None:
    with (
        http_server(lambda handler, _form: reply(handler, status, body, kind)) as url,
        source_of(url) as source,
        pytest.raises(SourceUnavailable),
    ):
        source.instant(UP, 1.0)


def test_a_refused_connection_is_tried_once_more_and_said_without_credentials() -> None:
    url = f"http://me:secret@127.0.0.1:{find_free_port()}"
    with source_of(url) as source:
        with pytest.raises(SourceUnavailable, match="Connection refused") as caught:
            source.instant(UP, 1.0)

        assert attempts(source) == 2
    assert "secret" not in str(caught.value)


def test_a_hung_prometheus_costs_one_read_timeout() -> None:
    let_go = threading.Event()

    def hang(_handler: BaseHTTPRequestHandler, _form: str) -> None:
        let_go.wait(HUNG_S)

    with http_server(hang) as url, source_of(url, read_s=0.3) as source, let_go_at_last(let_go):
        with pytest.raises(SourceUnavailable, match=r"did not answer within 0.3 s"):
            source.instant(UP, 1.0)

        assert attempts(source) == 1


def test_after_repeated_failures_prometheus_is_not_asked_until_the_pause_is_over() -> None:
    now_s = [100.0]
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        asked.append(form)
        body = {"status": "error", "errorType": "unavailable", "error": "starting"}
        answering(body, 503)(handler, form)

    with http_server(answer) as url, source_of(url, clock=lambda: now_s[0]) as source:
        for at_s in range(3):
            with pytest.raises(QueryFailed, match="starting"):
                source.instant(UP, at_s)
        with pytest.raises(SourceUnavailable, match="starting; it is not asked again yet"):
            source.instant(UP, 9.0)
        assert len(asked) == 3
        now_s[0] += BREAKER.open_s
        with pytest.raises(SourceUnavailable, match="starting"):
            source.instant(UP, 9.0)

    assert len(asked) == 4


def test_a_heavy_query_is_left_alone_for_a_while_and_the_others_go_on() -> None:
    now_s = [100.0]
    heavy = select("heavy")
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        (query,) = parse_qs(form)["query"]
        asked.append(query)
        if query == heavy.text:
            body = {"status": "error", "errorType": "timeout", "error": "took too long"}
            answering(body, 503)(handler, form)
        else:
            answering(VECTOR)(handler, form)

    with http_server(answer) as url, source_of(url, clock=lambda: now_s[0]) as source:
        for at_s in range(10):  # as ten viewers' charts would
            with pytest.raises(QueryFailed, match="took too long"):
                source.instant(heavy, at_s)
        assert asked == [heavy.text]
        for at_s in range(5):
            assert source.instant(UP, at_s).samples
        now_s[0] += NOT_AGAIN_S
        with pytest.raises(QueryFailed, match=r"took too long$"):
            source.instant(heavy, 99.0)

    assert asked.count(heavy.text) == 2


@pytest.mark.parametrize(
    ("extra", "is_partial"),
    [
        ({}, False),
        ({"isPartial": False}, False),
        ({"isPartial": True}, True),  # VictoriaMetrics
        ({"warnings": ["No StoreAPIs matched for this query"]}, True),  # Thanos
        ({"warnings": ['PromQL warning: bucket label "le" is missing']}, False),
        ({"infos": ["PromQL info: metric might not be a counter"]}, False),
        ({"warnings": None}, False),
    ],
)
def test_an_answer_from_which_something_was_left_out_says_so(
    extra: dict[str, object], is_partial: bool
) -> None:
    with http_server(answering(VECTOR | extra)) as url, source_of(url) as source:
        found = source.instant(UP, 1.0)

    assert found.is_partial is is_partial
    assert bool(found.warnings) is any(extra.values())


def test_refused_queries_never_open_the_breaker() -> None:
    body = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    with http_server(answering(body, 400)) as url, source_of(url) as source:
        for at_s in range(10):
            with pytest.raises(QueryRefused):
                source.instant(UP, at_s)


def test_equal_questions_at_one_time_share_one_query() -> None:
    arrived, let_go = threading.Event(), threading.Event()
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        asked.append(form)
        arrived.set()
        let_go.wait(HUNG_S)
        answering(VECTOR)(handler, form)

    with (
        http_server(answer) as url,
        source_of(url) as source,
        ThreadPoolExecutor(3) as threads,
        let_go_at_last(let_go),
    ):
        first = threads.submit(source.instant, UP, 1.0)
        assert arrived.wait(HUNG_S)
        others = [threads.submit(source.instant, UP, 1.0) for _ in range(2)]
        wait_until(lambda: source._flights.waiting == 2, what="two that wait for the first")
        let_go.set()
        answers = [future.result() for future in [first, *others]]

    assert len(asked) == 1
    assert answers[0].samples == answers[1].samples == answers[2].samples != ()


def test_no_more_than_four_queries_are_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prometheus, "WAIT_FOR_TURN_S", HUNG_S)
    lock, now, most = threading.Lock(), [0], [0]
    full, let_go = threading.Event(), threading.Event()

    def answer(handler: BaseHTTPRequestHandler, form: str) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
            if now[0] == MAX_IN_FLIGHT:
                full.set()
        let_go.wait(HUNG_S)
        with lock:
            now[0] -= 1
        answering(VECTOR)(handler, form)

    with (
        http_server(answer) as url,
        source_of(url) as source,
        ThreadPoolExecutor(10) as threads,
        let_go_at_last(let_go),
    ):
        futures = [threads.submit(source.instant, Expression(f"up{n}"), 1.0) for n in range(10)]
        assert full.wait(HUNG_S)
        let_go.set()
        assert all(future.result().samples for future in futures)

    assert most[0] == MAX_IN_FLIGHT
