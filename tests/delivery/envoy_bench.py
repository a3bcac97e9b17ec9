"""An Envoy adapter over a store in memory, and requests to it as Envoys send them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlplane.delivery.hotpath.auth import RateLimit, TokenTable
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.reports import InstanceNote, ReportBuffer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.hotpath.xds import XdsAdapter
from tests.delivery.builders import CHECKOUT_TOKEN, Clock, snapshot, token_record
from tests.delivery.envoy_policies import complete

NODE: dict[str, Any] = {
    "id": "checkout-1",
    "cluster": "checkout",
    "user_agent_name": "envoy",
    "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40}},
    "extensions": [{"name": "envoy.filters.http.router", "category": "envoy.filters.http"}],
}
KINDS = ("runtime", "clusters", "routes")
NAMED = {"runtime": ["prod/checkout"], "routes": ["prod/checkout"]}
LEVEL_1 = complete({"inbound": {"shedding": {"level": 1}}})


@dataclass(slots=True)
class Bench:
    """An adapter over a store in memory."""

    clock: Clock = field(default_factory=Clock)
    limit: RateLimit = field(default_factory=RateLimit)
    service: str = "checkout"
    store: SnapshotStore = field(init=False)
    reports: ReportBuffer = field(default_factory=ReportBuffer)
    adapter: XdsAdapter = field(init=False)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = SnapshotStore(self.clock)
        tokens = TokenTable()
        tokens.replace([token_record(CHECKOUT_TOKEN, self.service)])
        gate = Gate(self.store, tokens, clock=self.clock, limit=self.limit)
        self.adapter = XdsAdapter(gate, self.reports)
        self.store.is_loaded = True
        self.publish(7)

    def publish(self, sequence: int, **fields: Any) -> None:
        fields.setdefault("policy", complete({}))
        self.store.swap(snapshot(sequence, service=self.service, **fields))

    def ask(
        self, kind: str, version: str | None = None, *, node: Any = NODE, **fields: Any
    ) -> Answer:
        document = {"node": node, "resource_names": NAMED.get(kind, []), **fields}
        if version is not None:
            document["version_info"] = version
        return self.post(kind, json.dumps(document).encode())

    def post(self, kind: str, body: bytes, *headers: tuple[bytes, bytes]) -> Answer:
        authorization = (b"authorization", b"Bearer " + CHECKOUT_TOKEN.encode())
        path = f"/v3/discovery:{kind}"
        return self.adapter.answer(Request("POST", path, b"", [authorization, *headers], body))

    def poll(self, *, refuses: str = "") -> None:
        """One round of all kinds, as an Envoy does it that takes all of them but one."""
        for kind in KINDS:
            self.clock.pass_s(1.0)
            answer = self.ask(kind, self.versions.get(kind))
            if answer.status == 200 and kind != refuses:
                self.versions[kind] = json.loads(answer.body)["version_info"]

    def settle(self) -> None:
        """Polls until the node is known, with its standing reported."""
        for _ in range(3):
            self.poll()
        self.marks()

    def notes(self) -> list[InstanceNote]:
        return self.reports.take()

    def marks(self) -> list[tuple[str, str]]:
        return [
            (mark.outcome, mark.etag)
            for note in self.notes()
            for mark in note.marks
            if mark.outcome != "fetched"
        ]


def refusal(
    bench: Bench, kind: str = "runtime", version: str | None = None, **fields: Any
) -> Refusal:
    with pytest.raises(Refusal) as caught:
        bench.ask(kind, version, **fields)
    return caught.value
