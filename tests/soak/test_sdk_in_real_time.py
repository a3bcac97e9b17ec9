"""How long the SDK makes its callers wait, on real sockets and by a real clock."""

from __future__ import annotations

import dataclasses
import time

import httpx
import pytest

from tests.sdk.outbound import dependency_policy, policy_of, request_with
from tests.sdk.servers import server_that_says_once, silent_server
from tidegate import (
    SAFE_DEFAULTS,
    DeadlineExceeded,
    FixedPolicy,
    SyncPolicyClient,
    sync_http_client,
)
from tidegate.outbound_policy import TimeoutsPolicy

pytestmark = pytest.mark.soak


def test_a_server_that_never_answers_costs_no_more_than_an_attempt() -> None:
    timeouts = TimeoutsPolicy(connect_ms=100, attempt_ms=200)
    policy = dataclasses.replace(dependency_policy(max_attempts=1), timeouts=timeouts)
    with (
        silent_server() as url,
        sync_http_client(FixedPolicy(policy_of(policy)), "payments", url) as http,
    ):
        started_s = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            http.get("/")
        took_s = time.monotonic() - started_s

    assert 0.15 < took_s < 10.0


def test_a_body_that_stalls_costs_no_more_than_the_deadline() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
    with (
        server_that_says_once(half) as url,
        sync_http_client(FixedPolicy(policy_of(dependency_policy())), "payments", url) as http,
    ):
        started_s = time.monotonic()
        with request_with(time.monotonic, 0.3), pytest.raises(DeadlineExceeded):
            http.get("/")
        took_s = time.monotonic() - started_s

    assert 0.25 < took_s < 10.0


def test_a_silent_control_plane_holds_no_start_up_for_longer_than_it_may() -> None:
    with silent_server() as url:
        client = SyncPolicyClient(url, "prod", "checkout", "tgs_x")
        started_s = time.monotonic()
        try:
            client.start(first_answer_s=0.1)
            took_s = time.monotonic() - started_s
            assert client.policy is SAFE_DEFAULTS
        finally:
            client.stop()

    assert 0.05 < took_s < 3.0
