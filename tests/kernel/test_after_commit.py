from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import redis
from django.db import transaction

from controlplane.kernel import hints
from controlplane.kernel.channels import Channel
from controlplane.kernel.hints import hint_after_commit, send_hints

Capture = Callable[..., AbstractContextManager[list[Any]]]


class RecordingRedis:
    """As much of a Redis client as hints use."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple[str, str]] = []
        self._error = error

    def pipeline(self, *, transaction: bool) -> RecordingRedis:
        return self

    def publish(self, channel: str, message: str) -> None:
        self.sent.append((channel, message))

    def execute(self) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.django_db
def test_a_hint_goes_out_only_after_the_commit(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Capture
) -> None:
    client = RecordingRedis()
    monkeypatch.setattr(hints, "_client", lambda url: client)

    with django_capture_on_commit_callbacks(execute=True):
        with transaction.atomic():
            hint_after_commit(Channel.PUBLISHED, [{"service": "checkout", "sequence": 7}])
        assert client.sent == []

    assert [(channel, json.loads(message)) for channel, message in client.sent] == [
        ("tidegate:published", {"service": "checkout", "sequence": 7})
    ]


@pytest.mark.parametrize(
    "error", [redis.ConnectionError("refused"), redis.TimeoutError("slow"), OSError("no route")]
)
def test_a_dead_valkey_loses_the_hint_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(hints, "_client", lambda url: RecordingRedis(error))

    assert send_hints(Channel.PUBLISHED, [{"sequence": 7}]) is False
