"""Rows for the fake source, as the SDK's metrics would answer."""

from __future__ import annotations

from collections.abc import Mapping

Rows = list[tuple[Mapping[str, str], float]]


def fleet_rows(services: list[str]) -> dict[str, Rows]:
    """A healthy answer to every query of the native dialect; `checkout`-like services fail 5%."""
    rows: dict[str, Rows] = {
        "5..|": [],
        "duration_seconds_count": [],
        "server_request_duration_seconds_bucket": [],
        "tidegate_ready": [],
        "tidegate_inflight": [],
        "client_requests_total": [],
        "client_attempts_total": [],
        "breaker_state": [],
        "tidegate_rejected_total": [],
        "tenant_requests": [],
    }
    for name in services:
        route = {"service": name, "http_request_method": "POST", "http_route": "/orders"}
        edge = {"service": name, "dependency": "payments"}
        rows["5..|"].append((route, 0.5))
        rows["duration_seconds_count"].append((route, 10.0))
        for le, value in (("0.1", 5.0), ("0.5", 9.0), ("1.0", 9.5), ("+Inf", 10.0)):
            rows["server_request_duration_seconds_bucket"].append((route | {"le": le}, value))
        rows["tidegate_ready"].append(({"service": name}, 2.0))
        rows["tidegate_inflight"].append(({"service": name}, 7.0))
        rows["client_requests_total"] += [
            (edge | {"outcome": "success"}, 4.0),
            (edge | {"outcome": "breaker_open"}, 6.0),
        ]
        rows["client_attempts_total"] += [
            (edge | {"outcome": "success"}, 4.0),
            (edge | {"outcome": "timeout"}, 4.0),
        ]
        rows["breaker_state"] += [
            (edge | {"state": "closed"}, 1.0),
            (edge | {"state": "open"}, 1.0),
        ]
        rows["tidegate_rejected_total"].append(
            ({"service": name, "reason": "shed", "http_route": "/orders"}, 1.0)
        )
        rows["tenant_requests"] += [
            ({"service": name, "tenant": "acme", "outcome": "accepted"}, 3.0),
            ({"service": name, "tenant": "acme", "outcome": "limited"}, 1.0),
        ]
    return rows
