"""Builders for the tests of the policy client: a control plane played in memory, time by hand."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx

from tests.sdk.inbound import FakeClock, document
from tidegate import Policy, PolicyClient
from tidegate.client import Surroundings
from tidegate.credentials import Token
from tidegate.disk_copy import InThread

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC).timestamp()


def policy_document(shed_level: int = 0) -> dict[str, Any]:
    return copy.deepcopy(
        document(shedding={"level": shed_level, "default_criticality": "critical"})
    )


def at(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")


def publication(
    sequence: int, shed_level: int = 0, scheduled: Iterable[tuple[float, int]] = (), **changed: Any
) -> dict[str, Any]:
    """What the config API answers; `scheduled` are (unix seconds, shed level)."""
    return {
        "schema": "tidegate/v1",
        "environment": "prod",
        "service": "checkout",
        "version": 1,
        "sequence": sequence,
        "issued_at": at(NOON),
        "policy": policy_document(shed_level),
        "scheduled": [
            {
                "at": at(unix_s),
                "reason": "override 17 ends",
                "etag": f"{sequence}-{step}-aa",
                "policy": policy_document(level),
            }
            for step, (unix_s, level) in enumerate(scheduled, start=1)
        ],
        "poll": {"interval_s": 10, "jitter": 0.2, "max_stale_s": 3600},
        **changed,
    }


def ok(body: dict[str, Any], etag: str | None = None) -> httpx.Response:
    tag = f'"{body["sequence"]}-0-aa"' if etag is None else etag
    return httpx.Response(200, json=body, headers={"ETag": tag})


def unchanged() -> httpx.Response:
    return httpx.Response(304)


class ControlPlane(httpx.AsyncBaseTransport):
    """Answers each poll with the next of what it was told, and remembers what was asked."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.answers: list[httpx.Response | Exception] = []
        self.polls: list[httpx.Headers] = []
        self.urls: list[str] = []
        self.hold_s = 0.0
        self.is_dated = True
        self.ahead_s = 0.0
        self.keys: dict[str, Any] | None = None  # the list of signing keys; None is a 404
        self.keys_answer: httpx.Response | None = None  # in its place

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.polls.append(request.headers)
        self.urls.append(str(request.url))
        if request.url.path == "/config/v1/keys":
            usual = httpx.Response(200 if self.keys else 404, json=self.keys)
            return self.keys_answer or usual
        self._clock.advance(self.hold_s)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if self.is_dated:
            answer.headers["Date"] = formatdate(self._clock() + self.ahead_s, usegmt=True)
        return answer


class Follower:
    """A policy client whose control plane, clock, disk and luck belong to the test."""

    def __init__(
        self,
        state_dir: Path | None = None,
        *,
        clock: FakeClock | None = None,
        luck: float = 0.5,
        instance: str = "checkout-1",
        in_thread: InThread = asyncio.to_thread,
        token: Token = "tgs_secret",
        url: str = "https://tidegate.example/",
        **options: Any,
    ) -> None:
        self.clock = clock or FakeClock()
        if clock is None:
            self.clock.now_s = NOON
        self.control_plane = ControlPlane(self.clock)
        self.luck = luck
        self.levels: list[int] = []
        self.client = PolicyClient(
            url,
            "prod",
            "checkout",
            token,
            instance_id=instance,
            state_dir=state_dir,
            on_change=[lambda policy: self.levels.append(policy.inbound.shedding.level)],
            transport="long_poll",
            surroundings=Surroundings(
                transport=self.control_plane,
                wall=self.clock,
                elapsed=self.clock,
                monotonic=self.clock,
                uniform=lambda: self.luck,
                in_thread=in_thread,
            ),
            **options,
        )

    async def poll(self, answer: httpx.Response | Exception) -> float:
        """Poll once and get this answer; returns the pause the client would make."""
        self.control_plane.answers.append(answer)
        return await self.client.poll_once()

    @property
    def asked(self) -> httpx.Headers:
        """The headers of the last poll."""
        return self.control_plane.polls[-1]

    @property
    def level(self) -> int:
        """The shed level in force: how the tests tell policies apart."""
        return self.client.policy.inbound.shedding.level


def refuse_level_3(policy: Policy) -> None:
    if policy.inbound.shedding.level == 3:
        raise ValueError("level 3 is not for us")
