"""A token and an address are as they should be, or refused at once; neither shows a secret."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.sdk.following import Follower, ok, publication, unchanged
from tidegate import PolicyClient, SyncPolicyClient

SECRET = "tgs_s3cret"

CLIENTS = pytest.mark.parametrize("make", [PolicyClient, SyncPolicyClient])

BAD_TOKENS = [
    ("", "it is empty"),
    (" \n", "it is empty"),
    (f"{SECRET}\nX-Admin: 1", "a control character"),
    (f"{SECRET}\x00", "a control character"),
    (f"{SECRET} {SECRET}", "a space"),
    (f"{SECRET}é", "not ASCII"),
    (f"\ufeff{SECRET}", "not ASCII"),
]


def told_by(problem: BaseException) -> str:
    """All that a log would show of it."""
    return "".join(traceback.format_exception(problem))


@CLIENTS
@pytest.mark.parametrize(("token", "reason"), BAD_TOKENS)
def test_a_malformed_token_is_refused_at_once(
    make: Callable[..., object], token: str, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^token: .*{reason}") as refused:
        make("https://tidegate.example", "prod", "checkout", token)

    assert "s3cret" not in str(refused.value)


@CLIENTS
@pytest.mark.parametrize("token", [None, b"tgs_s3cret", 7])
def test_what_is_no_token_at_all_is_refused_by_its_type(
    make: Callable[..., object], token: Any
) -> None:
    with pytest.raises(ValueError, match=f"^token: .*not {type(token).__name__}"):
        make("https://tidegate.example", "prod", "checkout", token)


@CLIENTS
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "http:// or https://"),
        ("tidegate.example", "http:// or https://"),
        ("tidegate.example:8000", "http:// or https://"),
        ("//tidegate.example", "http:// or https://"),
        ("ftp://tidegate.example", "http:// or https://"),
        ("http:/tidegate.example", "http:// or https://"),
        ("https://", "names no host"),
        ("https:///config", "names no host"),
        ("https://:8000", "names no host"),
        ("https://tidegate.example:99999", "port"),
        ("https://tidegate.example:soon", "port"),
        ("https://[::1", "no address"),
        ("https://tide gate.example", "a space or a control character"),
        ("https://tidegate.example\n/x", "a space or a control character"),
        ("https://tidegate.example/?team=1", "a query"),
        ("https://tidegate.example/#top", "a query"),
        ("https://user:s3cret@tidegate.example", "a user name or password"),
        ("https://user:s3/cret@tidegate.example", "port"),
        ("user:s3cret@tidegate.example", "http:// or https://"),
        ("https://s3cret\u2100.example", "no address"),
        (None, "a text"),
        (b"https://tidegate.example", "a text"),
    ],
)
def test_an_address_that_cannot_be_asked_is_refused_at_once(
    make: Callable[..., object], url: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=f"^url: .*{reason}") as refused:
        make(url, "prod", "checkout", SECRET)

    assert "s3" not in told_by(refused.value).partition("ValueError: ")[2]


async def test_space_around_a_token_and_an_address_does_no_harm() -> None:
    follower = Follower(token=f" {SECRET}\r\n", url=" https://tidegate.example/base/\n")

    await follower.poll(ok(publication(7)))

    assert follower.asked["authorization"] == f"Bearer {SECRET}"
    assert follower.control_plane.urls == ["https://tidegate.example/base/config/v1/prod/checkout"]


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000", "HTTPS://Tidegate.Example", "http://[::1]:8000/", "http://größe"],
)
def test_every_usual_address_is_taken(url: str) -> None:
    PolicyClient(url, "prod", "checkout", SECRET)


@pytest.mark.parametrize(("token", "reason"), [*BAD_TOKENS, (None, "not NoneType")])
async def test_a_function_that_returns_no_usable_token_keeps_the_policy_and_says_why(
    token: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [SECRET]
    follower = Follower(token=lambda: tokens[-1])
    await follower.poll(ok(publication(7, shed_level=2)))
    tokens.append(token)

    pause_s = await follower.client.poll_once()

    assert (follower.level, len(follower.control_plane.polls)) == (2, 1)
    assert pause_s > 0.0
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "token" in said
    assert reason in said
    assert "gives no answer" not in said
    assert "s3cret" not in caplog.text


async def test_a_failing_token_function_opens_no_circuit_and_blames_no_transport() -> None:
    tokens: list[str] = [""]
    follower = Follower(token=lambda: tokens[-1])
    for _ in range(20):
        await follower.client.poll_once()
    assert follower.client._control_plane.circuit.counts().calls == 0

    tokens.append(SECRET)
    await follower.poll(ok(publication(7, shed_level=2)))

    assert (follower.level, follower.client.transport) == (2, "long_poll")


async def test_a_token_that_fails_while_the_control_plane_is_down_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tokens = [SECRET]
    follower = Follower(token=lambda: tokens[-1])
    await follower.poll(httpx.ConnectError("refused"))
    tokens.append("")

    for _ in range(3):
        await follower.client.poll_once()

    assert caplog.text.count("it is empty") == 1
    assert caplog.text.count("gives no answer") == 1


async def test_what_a_token_function_raises_is_named_and_not_quoted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> str:
        return f"{SECRET}\xff".encode("latin-1").decode()  # as read_text does of such a file

    follower = Follower(token=fail)

    await follower.client.poll_once()

    assert "UnicodeDecodeError" in caplog.text
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(400, text=f"bad header Authorization: Bearer {SECRET}"),
        httpx.Response(400, text="x" * 195 + SECRET),
        httpx.LocalProtocolError(f"Illegal header value b'Bearer {SECRET}'"),
        httpx.ConnectError(f"proxy refused Bearer {SECRET}"),
    ],
)
async def test_what_comes_back_may_quote_the_token_and_the_log_does_not(
    answer: httpx.Response | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tidegate")
    follower = Follower(token=SECRET)

    await follower.poll(answer)

    assert "gives no answer" in caplog.text
    assert "tgs_s" not in caplog.text


async def test_no_part_of_a_client_shows_its_token() -> None:
    follower = Follower(token=SECRET)
    await follower.poll(unchanged())
    threads = SyncPolicyClient("https://tidegate.example", "prod", "checkout", SECRET)

    for owner in (follower.client, follower.client._control_plane, threads):
        assert SECRET not in repr(owner)
        assert SECRET not in repr(vars(owner))
