"""The client for services in threads: against a real port, across restarts and forks."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.sdk.forking import finish, running
from tests.sdk.real_plane import RealPlane
from tests.sdk.signing import SigningKey, key_list
from tests.waiting import HUNG_S, wait_until
from tidegate import (
    SAFE_DEFAULTS,
    Policy,
    SyncPolicyClient,
    TidegateWsgiMiddleware,
    sync_http_client,
)
from tidegate.sync_client import _forks

FIRST, SECOND = SigningKey(1), SigningKey(2)


@pytest.fixture(autouse=True)
def nobody_follows_afterwards(patient: None) -> Iterator[None]:
    """Stop the clients that a failing test left at work."""
    yield
    for client in list(_forks.clients):
        client.stop()


def rotate(plane: RealPlane) -> None:
    """Sign by a key that only the list brings, endorsed by the first one, as after a rotation."""
    plane.sign = SECOND.sign
    plane.keys = key_list(FIRST.listed(), SECOND.listed(FIRST))


def client_of(plane: RealPlane, state_dir: Path | None = None, **options: Any) -> SyncPolicyClient:
    return SyncPolicyClient(
        plane.url, "prod", "checkout", "tgs_x", instance_id="web-1", state_dir=state_dir, **options
    )


@contextmanager
def following(plane: RealPlane, **options: Any) -> Iterator[SyncPolicyClient]:
    """A client that has its first answer, however busy the machine is."""
    with client_of(plane, **options) as client:
        plane.wait_until_applied("web-1", 7)
        yield client


def level(client: SyncPolicyClient) -> int:
    return client.policy.inbound.shedding.level


@pytest.mark.parametrize("transport", ["stream", "long_poll"])
def test_a_policy_reaches_a_thread_and_is_acknowledged(plane: RealPlane, transport: str) -> None:
    with following(plane, transport=transport) as client:
        assert client.sequence == 7
        plane.publish(8, shed_level=2)
        plane.wait_until_applied("web-1", 8)

        assert (level(client), client.etag, client.transport) == (2, "8-0-aa", transport)
        assert client.age_s is not None
        assert (client.rejected, client.is_stale, client.is_running) == (None, False, True)


def test_where_streams_are_refused_it_goes_on_by_long_poll(plane: RealPlane) -> None:
    plane.takes_streams = False

    with following(plane) as client:
        wait_until(lambda: client.transport == "long_poll", what="the end of streams")
        plane.publish(8, shed_level=1)
        plane.wait_until_applied("web-1", 8)

        assert (level(client), client.transport) == (1, "long_poll")


def test_stopping_ends_the_thread_and_its_stream_and_keeps_the_policy(plane: RealPlane) -> None:
    client = client_of(plane)
    client.start()
    client.start()
    plane.publish(8, shed_level=2)
    plane.wait_until_applied("web-1", 8)
    plane.wait_until_streaming(1)

    client.stop()
    client.stop()

    assert not client.is_running
    assert "tidegate" not in [thread.name for thread in threading.enumerate()]
    assert (level(client), client.instance_id) == (2, "web-1")
    plane.wait_until_streaming(0)


@pytest.mark.parametrize("pin", [FIRST.kid, FIRST.jwk], ids=["thumbprint", "key"])
def test_a_policy_whose_key_came_by_the_list_stays_in_force_after_a_stop(
    plane: RealPlane, tmp_path: Path, pin: Any
) -> None:
    rotate(plane)
    told: list[int] = []
    client = client_of(
        plane,
        state_dir=tmp_path,
        pinned_keys=[pin],
        on_change=[lambda policy: told.append(policy.inbound.shedding.level)],
    )
    plane.publish(8, shed_level=2)
    client.start(first_answer_s=HUNG_S)
    plane.wait_until_applied("web-1", 8)

    client.stop()

    assert (level(client), client.sequence, client.applied) == (2, 8, "8-0-aa")
    assert (client.etag, client.signature_failures) == ("8-0-aa", 0)
    assert client.age_s is not None
    assert told == [2]


def test_it_can_be_started_again(plane: RealPlane) -> None:
    client = client_of(plane)
    client.start()
    client.stop()
    plane.publish(8, shed_level=2)

    with client:
        plane.wait_until_applied("web-1", 8)

        assert level(client) == 2


def test_without_a_control_plane_it_starts_on_safe_defaults() -> None:
    with SyncPolicyClient("http://127.0.0.1:1", "prod", "checkout", "tgs_x") as client:
        assert client.policy is SAFE_DEFAULTS
        assert client.sequence is None


def test_a_control_plane_that_takes_requests_and_answers_none_holds_no_start_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(HUNG_S)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = SyncPolicyClient(url, "prod", "checkout", "tgs_x")

        client.start(first_answer_s=0.1)
        has_answer = client._client._following.answered.is_set()

        # Its request is still open: whatever ended the wait was neither an answer nor a failure.
        assert not has_answer
        with silent.accept()[0] as connection:
            connection.settimeout(HUNG_S)
            assert connection.recv(65536).startswith(b"GET /config/v1/prod/checkout")
            assert (client.policy, client.is_running) == (SAFE_DEFAULTS, True)
            client.stop()


def test_who_subscribes_late_is_told_what_is_in_force(plane: RealPlane) -> None:
    seen: list[int] = []
    with following(plane) as client:
        client.subscribe(lambda policy: seen.append(policy.inbound.shedding.level))
        plane.publish(8, shed_level=2)
        plane.wait_until_applied("web-1", 8)

    assert seen[:2] == [0, 2]


def test_a_policy_that_a_subscriber_cannot_obey_is_rejected(plane: RealPlane) -> None:
    def refuse(policy: Policy) -> None:
        if policy.inbound.shedding.level == 3:
            raise ValueError("not for us")

    with following(plane) as client:
        client.subscribe(refuse)
        plane.publish(8, shed_level=3)
        plane.wait_until_rejected("web-1", 8)
        assert (level(client), client.sequence) == (0, 7)
        assert "refuse could not apply it" in str(client.rejected)
        plane.publish(9, shed_level=1)
        plane.wait_until_applied("web-1", 9)

        assert (level(client), client.rejected) == (1, None)


def test_a_whole_service_in_threads_obeys_what_is_published(plane: RealPlane) -> None:
    with following(plane) as client:
        calls = sync_http_client(
            client, "payments", "http://payments", wrapped=httpx.MockTransport(_fine)
        )

        def app(environ: dict[str, object], start_response: object) -> list[bytes]:
            return [calls.get("/charge").content]

        service = TidegateWsgiMiddleware(app, client)
        assert service.guard.policy.inbound.shedding.level == 0
        plane.publish(8, shed_level=2)
        plane.wait_until_applied("web-1", 8)

        assert service.guard.policy.inbound.shedding.level == 2
        assert calls.get("/charge").status_code == 200


def _fine(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200)


def test_a_client_that_nobody_holds_any_more_is_gone(plane: RealPlane) -> None:
    client = client_of(plane)
    client.start()
    gone = weakref.ref(client)

    del client
    gc.collect()

    assert gone() is None
    assert "tidegate" not in [thread.name for thread in threading.enumerate()]


def test_options_that_make_no_sense_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="transport: expected one of"):
        SyncPolicyClient("http://x", "prod", "checkout", "tgs_x", transport="pigeon")


FORKING = """
import logging, os, sys, threading
import tidegate
from tests.sdk.patience import be_patient
from tests.waiting import HUNG_S

be_patient()
logging.getLogger("tidegate").setLevel(logging.ERROR)
url, state_dir, *pins = sys.argv[1:]
client = tidegate.SyncPolicyClient(
    url, "prod", "checkout", "tgs_x", instance_id="web", state_dir=state_dir,
    pinned_keys=pins or None,
)
guarded = tidegate.TidegateWsgiMiddleware(lambda environ, start_response: [], client)
client.start(first_answer_s=HUNG_S)
assert client.sequence == 7, client.sequence

children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        # The policy is in force from the first moment on; then the child follows by itself.
        assert client.sequence == 7 and client.is_running, client.sequence
        assert client.applied == "7-0-aa" and client.age_s is not None, client.applied
        assert client.instance_id == f"web-{os.getpid()}", client.instance_id
        break
    children.append(child)

os.write(1, f"{client.instance_id}\\n".encode())  # at once, unmixed with what the others say
changed = threading.Event()
client.subscribe(lambda policy: policy.inbound.shedding.level == 2 and changed.set())
assert changed.wait(HUNG_S), "the policy never came"
assert guarded.guard.policy.inbound.shedding.level == 2
# The parent's end of stdin is closed when every instance has said that it applied it.
sys.stdin.read()
client.stop()
if len(children) < 3:
    os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
"""


@pytest.mark.parametrize("pins", [[], [FIRST.kid]], ids=["unverified", "by a thumbprint"])
def test_forked_children_follow_by_themselves_with_an_identity_of_their_own(
    plane: RealPlane, tmp_path: Path, pins: list[str]
) -> None:
    if pins:
        rotate(plane)
    with running(FORKING, plane.url, str(tmp_path), *pins) as process:
        assert process.stdout is not None
        instances = {process.stdout.readline().strip() for _ in range(4)}
        assert "" not in instances, process.communicate(timeout=HUNG_S)
        for instance in instances:
            plane.wait_until_applied(instance, 7)
        plane.publish(8, shed_level=2)
        for instance in instances:
            plane.wait_until_applied(instance, 8)
        finish(process)

    assert len(instances) == 4
