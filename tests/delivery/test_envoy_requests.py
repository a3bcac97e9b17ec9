"""Discovery requests as Envoy sends them: answers, refusals, and what is reported of the node."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from controlplane.delivery.hotpath import xds_answers
from controlplane.delivery.hotpath.auth import TokenTable
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.reports import InstanceNote, ReportBuffer
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import SnapshotStore
from controlplane.delivery.hotpath.xds import MAX_DECODED_BYTES, XdsAdapter
from controlplane.delivery.hotpath.xds_answers import KeptAnswers
from controlplane.delivery.hotpath.xds_nodes import REFUSED_AFTER, NodeTable
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
    store: SnapshotStore = field(init=False)
    reports: ReportBuffer = field(default_factory=ReportBuffer)
    adapter: XdsAdapter = field(init=False)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = SnapshotStore(self.clock)
        tokens = TokenTable()
        tokens.replace([token_record(CHECKOUT_TOKEN, "checkout")])
        self.adapter = XdsAdapter(Gate(self.store, tokens, clock=self.clock), self.reports)
        self.store.is_loaded = True
        self.publish(7)

    def publish(self, sequence: int, **fields: Any) -> None:
        fields.setdefault("policy", complete({}))
        self.store.swap(snapshot(sequence, **fields))

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

    def notes(self) -> list[InstanceNote]:
        return self.reports.take()

    def marks(self) -> list[tuple[str, str]]:
        return [
            (mark.outcome, mark.etag)
            for note in self.notes()
            for mark in note.marks
            if mark.outcome != "fetched"
        ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def refusal(bench: Bench, kind: str = "runtime", **fields: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        bench.ask(kind, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "type_name"),
    [
        ("runtime", "envoy.service.runtime.v3.Runtime"),
        ("clusters", "envoy.config.cluster.v3.Cluster"),
        ("routes", "envoy.config.route.v3.RouteConfiguration"),
    ],
)
def test_the_first_request_is_answered_the_resources_in_force(
    bench: Bench, kind: str, type_name: str
) -> None:
    node = {**NODE, "metadata": {"tidegate": {"clusters": {"payments": ["10.0.0.7:80"]}}}}

    answer = bench.ask(kind, node=node)

    document = json.loads(answer.body)
    assert answer.status == 200
    assert document["type_url"] == f"type.googleapis.com/{type_name}"
    assert document["version_info"] == f"7-0-9f3c/{kind}"
    (resource,) = document["resources"]
    assert resource["@type"] == document["type_url"]
    assert resource["name"] == ("payments" if kind == "clusters" else "prod/checkout")


def test_a_node_that_has_the_version_is_answered_304_without_a_body(bench: Bench) -> None:
    answer = bench.ask("routes", "7-0-9f3c/routes")

    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("version", ["6-0-9f3c/routes", "7-0-9f3c/clusters", "7-0-9f3c", "x"])
def test_any_other_version_is_answered_with_the_resources(bench: Bench, version: str) -> None:
    assert bench.ask("routes", version).status == 200


@pytest.mark.parametrize("version", ["9-0-9f3c", "7-1-9f3c"], ids=["sequence", "step"])
def test_a_node_that_was_ahead_elsewhere_is_never_sent_back(bench: Bench, version: str) -> None:
    for kind in KINDS:
        for _ in range(REFUSED_AFTER + 2):
            assert bench.ask(kind, f"{version}/{kind}").status == 304

    assert bench.marks() == [("applied", version)]


def test_the_same_position_with_another_tag_is_no_step_ahead(bench: Bench) -> None:
    assert bench.ask("routes", "7-0-0000/routes").status == 200


def test_a_policy_that_takes_over_by_the_clock_is_another_version(bench: Bench) -> None:
    bench.publish(8, scheduled=[(60.0, LEVEL_1)])
    assert bench.ask("runtime", "8-0-9f3c/runtime").status == 304

    bench.clock.pass_s(60.0)
    document = json.loads(bench.ask("runtime", "8-0-9f3c/runtime").body)

    assert document["version_info"] == "8-1-9f3c/runtime"
    assert document["resources"][0]["layer"]["tidegate.shed.sheddable"] == 100


def test_a_canary_reaches_its_part_of_the_nodes_and_its_end_reaches_them_too(
    bench: Bench,
) -> None:
    bench.publish(8, policy=LEVEL_1, cohort="canary", ratio=0.5)
    nodes = [{**NODE, "id": f"checkout-{number}"} for number in range(40)]

    sent = [json.loads(bench.ask("runtime", node=node).body)["version_info"] for node in nodes]
    again = [bench.ask("runtime", has, node=node) for node, has in zip(nodes, sent, strict=True)]

    assert set(sent) == {"7-0-9f3c/runtime", "8-0-9f3c/runtime"}
    assert {answer.status for answer in again} == {304}

    bench.publish(9, cohort="canary")  # ratio 0 ends it
    bench.publish(10)
    after = {json.loads(bench.ask("runtime", node=node).body)["version_info"] for node in nodes}

    assert after == {"10-0-9f3c/runtime"}


def test_an_answer_is_made_once_for_all_nodes_of_one_shape(bench: Bench) -> None:
    first = bench.ask("routes")

    same = bench.ask("routes", node={**NODE, "id": "checkout-2"})
    other = bench.ask(
        "routes", node={**NODE, "metadata": {"tidegate": {"inbound_cluster": "gateway"}}}
    )

    assert same is first
    assert json.loads(other.body)["resources"] != json.loads(first.body)["resources"]


def test_calls_have_routes_of_their_own(bench: Bench) -> None:
    answer = bench.ask("routes", resource_names=["prod/checkout/outbound"])

    (resource,) = json.loads(answer.body)["resources"]
    assert resource["name"] == "prod/checkout/outbound"


def test_a_compressed_body_is_read(bench: Bench) -> None:
    body = gzip.compress(json.dumps({"node": NODE, "version_info": "7-0-9f3c/runtime"}).encode())

    assert bench.post("runtime", body, (b"content-encoding", b"gzip")).status == 304


def test_a_body_that_unpacks_to_too_much_is_refused(bench: Bench) -> None:
    body = gzip.compress(b" " * (MAX_DECODED_BYTES + 1))

    with pytest.raises(Refusal) as caught:
        bench.post("runtime", body, (b"content-encoding", b"gzip"))

    assert caught.value.status == 413


DEEP = b"[" * 50_000 + b"]" * 50_000


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"\xff", b'{"node": {"id": "a"}} x', b'{"node": {"id": "\xff"}}',
        b'{"node": {"id": "a", "metadata": {"x": ' + DEEP + b"}}}",
        b'{"node": {"id": "a"}, "x": ' + DEEP + b"}",
    ],
    ids=["empty", "cut", "binary", "more", "no UTF-8", "deep", "deep and unread"],
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused(bench: Bench, body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        bench.post("runtime", body)

    assert (caught.value.status, caught.value.code) == (400, "bad-body")


@pytest.mark.parametrize(
    ("fields", "where", "message"),
    [
        ({"node": []}, "node", "Expected `object`, got `array`"),
        ({"node": None}, "node", "Expected `object`, got `null`"),
        ({"node": {}}, "node.id", "is missing"),
        ({"node": {"id": 7}}, "node.id", "Expected `str`, got `int`"),
        ({"node": {"id": ""}}, "node.id", "expected 1 to 128 letters"),
        ({"node": {"id": "a b"}}, "node.id", "expected 1 to 128 letters"),
        ({"node": {"id": "a" * 129}}, "node.id", "expected 1 to 128 letters"),
        (
            {"node": {**NODE, "metadata": {"tidegate": {"inbuond_cluster": "x"}}}},
            "node.metadata.tidegate.inbuond_cluster",
            "unknown; here stand inbound_cluster and clusters only",
        ),
        (
            {"node": {**NODE, "metadata": {"tidegate": {"inbound_cluster": "a b"}}}},
            "node.metadata.tidegate.inbound_cluster",
            "expected the name of a cluster",
        ),
        (
            {"node": {**NODE, "metadata": {"tidegate": {"clusters": {"gateway": ["10.0.0.7"]}}}}},
            "node.metadata.tidegate.clusters.gateway",
            'expected hosts as "name:port" or "address:port"',
        ),
        (
            {"node": {**NODE, "metadata": {"tidegate": {"clusters": {"gateway": []}}}}},
            "node.metadata.tidegate.clusters.gateway",
            "expected a list of 1 to 1000 hosts",
        ),
        ({"type_url": "type.googleapis.com/x"}, "type_url", "expected type.googleapis.com/envoy"),
        ({"version_info": 7}, "version_info", "Expected `str`, got `int`"),
        ({"resource_names": "prod/x"}, "resource_names", "Expected `array`, got `str`"),
    ],
)
def test_a_bad_request_is_told_which_field_and_what_would_be_right(
    bench: Bench, fields: dict[str, Any], where: str, message: str
) -> None:
    found = refusal(bench, **fields)

    assert (found.status, found.field) == (400, where)
    assert found.detail.startswith(message)


def test_a_request_without_a_node_is_told_so(bench: Bench) -> None:
    with pytest.raises(Refusal) as caught:
        bench.post("runtime", b"{}")

    assert (caught.value.field, caught.value.detail) == ("node", "is missing")


def test_only_the_resources_of_the_token_are_served(bench: Bench) -> None:
    found = refusal(bench, resource_names=["prod/payments"])

    assert (found.status, found.code) == (404, "unknown-resource")
    assert found.detail == "this token is for prod/checkout only"


def test_without_a_token_nothing_is_served(bench: Bench) -> None:
    with pytest.raises(Refusal) as caught:
        bench.adapter.answer(Request("POST", "/v3/discovery:runtime", b"", [], b"{}"))

    assert caught.value.status == 401


def test_before_policies_are_loaded_an_envoy_is_told_to_come_back(bench: Bench) -> None:
    bench.store.is_loaded = False

    found = refusal(bench)

    assert (found.status, found.code) == (503, "not-loaded")


def test_an_answer_that_the_database_does_not_confirm_says_its_age(bench: Bench) -> None:
    bench.store.behind_since_unix = bench.clock() - 40

    for version in (None, "7-0-9f3c/runtime"):
        assert dict(bench.ask("runtime", version).headers)[b"age"] == b"40"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3/discovery:runtime", 405),
        ("POST", "/v3/discovery:listeners", 404),
        ("POST", "/v3/discovery:", 404),
    ],
)
def test_other_methods_and_kinds_are_refused(
    bench: Bench, method: str, path: str, status: int
) -> None:
    with pytest.raises(Refusal) as caught:
        bench.adapter.answer(Request(method, path, b"", [], b"{}"))

    assert caught.value.status == status


def test_a_policy_without_words_in_envoy_is_a_503_and_envoy_keeps_what_it_has(
    bench: Bench,
) -> None:
    bench.publish(8, policy={"inbound": {"deadline_ms": 0}})

    found = refusal(bench, "routes")

    assert (found.status, found.code) == (503, "not-mapped")
    assert refusal(bench, "routes").detail == found.detail


def test_a_version_counts_as_applied_once_every_kind_has_it(bench: Bench) -> None:
    bench.poll()
    (note,) = bench.notes()
    assert [mark.outcome for mark in note.marks] == ["fetched"]

    bench.poll()
    (note,) = bench.notes()

    assert [(mark.outcome, mark.etag, mark.sequence) for mark in note.marks] == [
        ("applied", "7-0-9f3c", 7)
    ]
    assert (note.instance_id, note.sdk) == ("checkout-1", "envoy/1.40.0")


def test_a_kind_that_is_refused_is_reported_with_its_name(bench: Bench) -> None:
    bench.poll()
    bench.poll()
    bench.marks()
    bench.publish(8)

    for _ in range(REFUSED_AFTER):
        bench.poll(refuses="routes")
    assert ("rejected", "8-0-9f3c") not in bench.marks()
    bench.poll(refuses="routes")
    (note,) = bench.notes()

    assert [(mark.outcome, mark.etag) for mark in note.marks] == [
        ("applied", "7-0-9f3c"),
        ("rejected", "8-0-9f3c"),
    ]
    assert note.marks[1].reason.startswith("Envoy does not take the routes: sent 3 times")


def test_a_refusing_node_is_reported_once_and_as_applied_when_it_takes_the_next(
    bench: Bench,
) -> None:
    bench.poll()
    bench.publish(8)
    for _ in range(REFUSED_AFTER + 3):
        bench.poll(refuses="routes")
    assert bench.marks().count(("rejected", "8-0-9f3c")) == 1

    bench.publish(9)
    bench.poll()
    bench.poll()

    marks = bench.marks()
    assert marks[-1] == ("applied", "9-0-9f3c")
    assert ("rejected", "9-0-9f3c") not in marks


def test_a_node_that_never_had_a_version_and_takes_none_is_refusing_too(bench: Bench) -> None:
    for _ in range(REFUSED_AFTER + 1):
        bench.poll(refuses="clusters")

    assert bench.marks() == [("rejected", "7-0-9f3c")]


def test_a_lost_answer_is_no_refusal(bench: Bench) -> None:
    for _ in range(REFUSED_AFTER):
        bench.ask("runtime")

    bench.ask("runtime", "7-0-9f3c/runtime")

    assert bench.marks() == [("applied", "7-0-9f3c")]


def test_a_kind_that_a_node_no_longer_asks_for_holds_nothing_up(bench: Bench) -> None:
    bench.poll()
    bench.poll()
    bench.marks()
    bench.publish(8)

    bench.clock.pass_s(121.0)
    bench.ask("runtime", "8-0-9f3c/runtime")

    assert bench.marks() == [("applied", "8-0-9f3c")]


def test_a_service_whose_nodes_all_differ_pays_with_its_own_time(clock_s: list[float]) -> None:
    wall = Clock()
    answers = KeptAnswers(wall, timer=lambda: clock_s[0])

    def ask(service: str, shape: int) -> Answer | None:
        def make() -> Answer:
            clock_s[0] += 0.4
            return Answer(200, (), b"%d" % shape)

        return answers.get(("prod", service), (service, shape), make)

    for shape in range(3):
        ask("checkout", shape)
    with pytest.raises(Refusal, match="differ in too many ways") as caught:
        ask("checkout", 3)

    assert caught.value.status == 429
    assert (found := ask("checkout", 0)) is not None
    assert found.body == b"0"
    ask("payments", 0)
    wall.pass_s(10.0)
    ask("checkout", 3)


def test_answers_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds_answers, "MAX_KEPT_BYTES", 5_000)
    answers, made = KeptAnswers(Clock()), []

    def ask(shape: int) -> None:
        answers.get(("prod", "checkout"), shape, lambda: made.append(shape))

    for shape in (0, 1, 2, 3, 4, 5, 5, 0):
        ask(shape)

    assert made == [0, 1, 2, 3, 4, 5, 0]


@pytest.fixture
def clock_s() -> list[float]:
    return [0.0]


def test_of_too_many_nodes_the_longest_silent_is_forgotten() -> None:
    table = NodeTable(max_per_service=2)

    def offer(node: bytes) -> bool:
        _, is_new = table.take(
            ("prod", "checkout"), node, "runtime", has=None, etag="7-0-a", kind="runtime",
            now_unix=0.0,
        )  # fmt: skip
        return is_new

    assert [offer(b"a"), offer(b"b"), offer(b"a"), offer(b"c")] == [True, True, False, True]
    assert offer(b"b") is True
    assert offer(b"c") is False
