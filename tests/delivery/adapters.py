"""What tests of adapters build: complete policies, a gate with tokens, requests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.delivery.domain.snapshot import Snapshot
from controlplane.delivery.hotpath.auth import RateLimit, TokenTable
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.problems import Answer
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.policies.domain.resolve import Layer, resolve
from tests.delivery.builders import (
    CHECKOUT_TOKEN,
    NEWCOMER_TOKEN,
    Clock,
    snapshot,
    token_record,
)


def complete(document: Mapping[str, Any]) -> dict[str, Any]:
    """The policy that is delivered when `document` is the only layer."""
    return resolve([Layer("version", "v1", document)]).policy


def features(level: int = 0, **named: Mapping[str, Any]) -> dict[str, Any]:
    """A complete policy at a shed level, with these features."""
    return complete({"inbound": {"shedding": {"level": level}, "features": named}})


@dataclass(slots=True)
class World:
    """A gate with a token for `checkout` in `prod`, and what stands behind it."""

    clock: Clock = field(default_factory=Clock)
    limit: RateLimit = field(default_factory=RateLimit)
    reports: ReportBuffer = field(default_factory=ReportBuffer)
    tokens: TokenTable = field(default_factory=TokenTable)
    store: SnapshotStore = field(init=False)
    gate: Gate = field(init=False)

    def __post_init__(self) -> None:
        self.store = SnapshotStore(self.clock)
        self.gate = Gate(self.store, self.tokens, clock=self.clock, limit=self.limit)
        self.tokens.replace(
            [token_record(CHECKOUT_TOKEN, "checkout"), token_record(NEWCOMER_TOKEN, "newcomer")]
        )

    def publish(self, *snapshots: Snapshot) -> None:
        """Serve these from now on."""
        for each in snapshots:
            self.store.swap(each)
        self.store.is_loaded = True


def world(policy: Mapping[str, Any] | None = None, *, limit: RateLimit | None = None) -> World:
    """A loaded world in which `checkout` has this policy (the built-in one by default)."""
    made = World(limit=limit or RateLimit())
    made.publish(snapshot(7, policy=complete({}) if policy is None else policy))
    return made


def request(
    path: str,
    *,
    method: str = "GET",
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    token: str | None = CHECKOUT_TOKEN,
) -> Request:
    """A request as the hot path hands it to an adapter."""
    pairs = list((headers or {}).items())
    if token is not None:
        pairs.append(("authorization", f"Bearer {token}"))
    return Request(
        method=method,
        path=path,
        query=b"",
        headers=[(name.lower().encode(), value.encode("latin-1")) for name, value in pairs],
        body=body,
    )


def header(answer: Answer, name: str) -> str | None:
    """A header of an answer by its lower-case name; None when it has none."""
    found = [value for key, value in answer.headers if key == name.encode()]
    assert len(found) < 2, f"{name} is there {len(found)} times"
    return found[0].decode("latin-1") if found else None


def body_of(answer: Answer) -> Any:
    """The JSON of an answer, whose length its header has to tell."""
    assert header(answer, "content-length") == str(len(answer.body))
    return json.loads(answer.body)
