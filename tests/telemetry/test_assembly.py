from __future__ import annotations

import pytest

from controlplane.telemetry.domain.assemble import assemble_services
from controlplane.telemetry.domain.dialects.native import Reading
from controlplane.telemetry.domain.quantiles import Quantile
from controlplane.telemetry.domain.series import Sample

ROUTE = {"service": "checkout", "http_request_method": "POST", "http_route": "/orders"}


def edge(service: str, dependency: str, outcome: str, value: float) -> Sample:
    return Sample({"service": service, "dependency": dependency, "outcome": outcome}, value)


def test_a_service_that_never_failed_has_an_error_ratio_of_zero() -> None:
    answers = {Reading.REQUESTS: (Sample(ROUTE, 4.0),), Reading.ERRORS: ()}

    checkout = assemble_services(answers)["checkout"]

    assert checkout.error_ratio == 0.0
    assert checkout.endpoints["POST /orders"].error_ratio == 0.0


def test_a_refused_query_leaves_its_figures_missing_not_zero() -> None:
    checkout = assemble_services({Reading.REQUESTS: (Sample(ROUTE, 4.0),)})["checkout"]

    assert checkout.rate_per_s == 4.0
    assert checkout.error_ratio is None
    assert checkout.shed_ratio is None
    assert checkout.p95 is None
    assert checkout.endpoints["POST /orders"].error_ratio is None


def test_an_idle_service_has_no_error_ratio() -> None:
    answers = {Reading.REQUESTS: (Sample(ROUTE, 0.0),), Reading.ERRORS: ()}

    checkout = assemble_services(answers)["checkout"]

    assert checkout.rate_per_s == 0.0
    assert checkout.error_ratio is None


def test_a_registered_service_without_series_is_there_and_empty() -> None:
    services = assemble_services({Reading.REQUESTS: ()}, registered=["ledger"])

    assert list(services) == ["ledger"]
    assert not services["ledger"].has_data


def test_a_service_nobody_registered_is_kept() -> None:
    answers = {Reading.REQUESTS: (Sample(ROUTE, 4.0),)}

    assert list(assemble_services(answers, registered=["ledger"])) == ["checkout", "ledger"]


def test_requests_without_a_route_count_for_the_service_and_for_no_endpoint() -> None:
    lost = {"service": "checkout", "http_request_method": "GET"}
    answers = {Reading.REQUESTS: (Sample(ROUTE, 4.0), Sample(lost, 1.0)), Reading.ERRORS: ()}

    checkout = assemble_services(answers)["checkout"]

    assert checkout.rate_per_s == 5.0
    assert list(checkout.endpoints) == ["POST /orders"]


def test_quantiles_add_the_histograms_of_all_endpoints() -> None:
    other = ROUTE | {"http_route": "/cart"}
    answers = {
        Reading.LATENCY: tuple(
            Sample(labels | {"le": le}, value)
            for labels, counts in ((ROUTE, (0.0, 1.0, 1.0)), (other, (0.0, 0.0, 9.0)))
            for le, value in zip(("0.1", "0.2", "+Inf"), counts, strict=True)
        )
    }

    checkout = assemble_services(answers)["checkout"]

    assert checkout.p95 == Quantile(0.2, capped=True)


def test_attempts_per_request_leave_out_what_the_breaker_refused() -> None:
    answers = {
        Reading.CLIENT_REQUESTS: (
            edge("checkout", "payments", "success", 1.0),
            edge("checkout", "payments", "error", 1.0),
            edge("checkout", "payments", "breaker_open", 8.0),
        ),
        Reading.CLIENT_ATTEMPTS: (
            edge("checkout", "payments", "success", 1.0),
            edge("checkout", "payments", "error", 4.0),
        ),
    }

    services = assemble_services(answers, registered=["payments"])
    payments = services["checkout"].dependencies["payments"]

    assert payments.rate_per_s == 10.0
    assert payments.attempts_per_request == 2.5
    assert payments.failure_ratio == 0.8
    assert sum(payments.failures.values()) == pytest.approx(0.8)
    assert "success" not in payments.failures
    assert services["checkout"].attempts_per_request == 2.5
    assert services["payments"].attempts_received_per_request == 2.5


def test_attempts_received_follow_the_registry_when_names_differ() -> None:
    answers = {
        Reading.CLIENT_REQUESTS: (edge("checkout", "psp", "success", 2.0),),
        Reading.CLIENT_ATTEMPTS: (edge("checkout", "psp", "success", 3.0),),
    }

    services = assemble_services(
        answers, registered=["payments"], targets={("checkout", "psp"): "payments"}
    )

    assert services["payments"].attempts_received_per_request == 1.5


def test_nothing_sent_has_no_attempts_per_request() -> None:
    answers = {
        Reading.CLIENT_REQUESTS: (edge("checkout", "payments", "breaker_open", 5.0),),
        Reading.CLIENT_ATTEMPTS: (edge("checkout", "payments", "success", 0.0),),
    }

    assert assemble_services(answers)["checkout"].attempts_per_request is None


def test_breakers_count_the_instances_in_each_state() -> None:
    labels = {"service": "checkout", "dependency": "payments"}
    answers = {
        Reading.BREAKER_STATES: (
            Sample(labels | {"state": "closed"}, 1.0),
            Sample(labels | {"state": "open"}, 2.0),
            Sample(labels | {"state": "half_open"}, 0.0),
        )
    }

    dependency = assemble_services(answers)["checkout"].dependencies["payments"]

    assert dependency.breaker_states == {"closed": 1, "open": 2}
    assert dependency.rate_per_s is None


def test_the_shed_share_adds_every_reason() -> None:
    labels = {"service": "checkout", "http_route": "/orders"}
    answers = {
        Reading.REQUESTS: (Sample(ROUTE, 8.0),),
        Reading.REJECTED: (
            Sample(labels | {"reason": "shed"}, 1.0),
            Sample(labels | {"reason": "rate"}, 1.0),
        ),
    }

    checkout = assemble_services(answers)["checkout"]

    assert checkout.shed_ratio == pytest.approx(0.25)
    assert checkout.rejected_per_s == {"rate": 1.0, "shed": 1.0}


def test_tenants_show_how_much_of_them_is_limited() -> None:
    answers = {
        Reading.TENANTS: (
            Sample({"service": "checkout", "tenant": "acme", "outcome": "accepted"}, 3.0),
            Sample({"service": "checkout", "tenant": "acme", "outcome": "limited"}, 1.0),
        )
    }

    acme = assemble_services(answers)["checkout"].tenants["acme"]

    assert (acme.rate_per_s, acme.limited_ratio) == (4.0, 0.25)
