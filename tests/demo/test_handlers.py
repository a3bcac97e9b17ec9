"""The handlers of the fleet: what passes on, what is done without, what a caller is told."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from demo.faults import Fault
from demo.services import ROUTES
from demo.web import Application
from demo.work import Work
from tidegate.errors import BreakerOpen, DeadlineExceeded

Answers = Callable[[httpx.Request], httpx.Response]


def ask(
    service: str,
    method: str,
    path: str,
    answers: dict[str, Answers] | None = None,
    *,
    fault: Fault | None = None,
    features_off: bool = False,
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Send one request to a service whose dependencies answer as given."""

    async def go() -> tuple[int, dict[str, Any], dict[str, str]]:
        clients = {
            name: httpx.AsyncClient(
                transport=httpx.MockTransport(answer), base_url=f"http://{name}"
            )
            for name, answer in (answers or {}).items()
        }
        work = Work(
            clients, lambda: fault or Fault(), lambda name: not features_off, random.Random(1)
        )
        application = Application(ROUTES[service](work))
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(application), base_url="http://here"
        ) as client:
            answer = await client.request(method, path, headers={"Idempotency-Key": "k1"})
        await work.aclose()
        return answer.status_code, json.loads(answer.content), dict(answer.headers)

    return asyncio.run(go())


def fine(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"path": request.url.path})


def failing(status: int, headers: dict[str, str] | None = None) -> Answers:
    return lambda request: httpx.Response(status, json={}, headers=headers)


def raising(problem: Exception) -> Answers:
    def answer(request: httpx.Request) -> httpx.Response:
        raise problem

    return answer


def test_an_order_charges_with_the_key_of_the_caller() -> None:
    keys = []

    def charge(request: httpx.Request) -> httpx.Response:
        keys.append((request.method, request.url.path, request.headers["Idempotency-Key"]))
        return httpx.Response(201, json={})

    status, _, _ = ask("checkout", "POST", "/orders", {"inventory": fine, "payments": charge})

    assert status == 201
    assert keys == [("POST", "/charge", "k1")]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (failing(500), 502),
        (failing(429, {"Retry-After": "7"}), 429),
        (failing(503, {"Retry-After": "7"}), 503),
        (failing(504), 504),
        (failing(409), 409),
        (raising(DeadlineExceeded("payments")), 504),
        (raising(httpx.ReadTimeout("late")), 504),
        (raising(httpx.ConnectError("gone")), 502),
        (raising(BreakerOpen("payments", 6.2)), 503),
    ],
    ids=[
        "error",
        "limited",
        "full",
        "late there",
        "refused",
        "deadline",
        "late here",
        "gone",
        "resting",
    ],
)
def test_a_caller_is_told_what_became_of_the_dependency(answer: Answers, status: int) -> None:
    told, _, headers = ask("checkout", "POST", "/orders", {"inventory": fine, "payments": answer})

    assert told == status
    if status in (429, 503):
        assert headers["retry-after"] == "7"


def test_an_order_goes_on_without_a_stock_check_that_our_breaker_refused() -> None:
    dependencies = {"inventory": raising(BreakerOpen("inventory", 3)), "payments": fine}

    assert ask("checkout", "POST", "/orders", dependencies)[0] == 201
    dependencies["inventory"] = failing(500)
    assert ask("checkout", "POST", "/orders", dependencies)[0] == 502


def test_a_charge_goes_through_unscored_but_never_unwritten() -> None:
    assert ask("payments", "POST", "/charge", {"fraud": failing(504), "ledger": fine})[0] == 201
    assert ask("payments", "POST", "/charge", {"fraud": fine, "ledger": failing(500)})[0] == 502


def test_the_home_page_does_without_what_it_can_not_get() -> None:
    status, page, _ = ask("gateway", "GET", "/", {"checkout": failing(503), "search": failing(500)})

    assert status == 200
    assert page == {"page": "home", "cart": {"unavailable": "checkout is full"}, "recommended": []}


def test_a_feature_that_is_off_is_not_even_asked_for() -> None:
    _, page, _ = ask("gateway", "GET", "/", {"checkout": fine, "search": fine}, features_off=True)

    assert "recommended" not in page


def test_parameters_of_the_path_pass_on() -> None:
    _, product, _ = ask("gateway", "GET", "/products/17", {"catalog": fine})

    assert product == {"path": "/products/17"}


def test_an_unknown_path_is_not_found() -> None:
    assert ask("catalog", "GET", "/nothing")[0] == 404


def test_an_error_burst_answers_500() -> None:
    assert ask("inventory", "GET", "/stock/1", fault=Fault(error_ratio=1.0))[0] == 500
