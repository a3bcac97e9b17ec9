"""The bodies of discovery requests: what is read of them, what is refused, and what that costs."""

from __future__ import annotations

import contextlib
import gzip
import json
import tracemalloc
from typing import Any

import pytest

from controlplane.delivery.hotpath.auth import RateLimit
from controlplane.delivery.hotpath.problems import Refusal
from controlplane.delivery.hotpath.xds import MAX_BODY_BYTES
from tests.delivery.envoy_bench import NODE, Bench, refusal


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_compressed_body_is_read(bench: Bench) -> None:
    body = gzip.compress(json.dumps({"node": NODE, "version_info": "7-0-9f3c/runtime"}).encode())

    assert bench.post("runtime", body, (b"content-encoding", b"gzip")).status == 304


def test_a_body_that_unpacks_to_too_much_is_refused(bench: Bench) -> None:
    body = gzip.compress(b" " * (MAX_BODY_BYTES + 1))

    with pytest.raises(Refusal) as caught:
        bench.post("runtime", body, (b"content-encoding", b"gzip"))

    assert caught.value.status == 413


def hollow(before: bytes, piece: bytes, after: bytes, length: int = MAX_BODY_BYTES) -> bytes:
    """A body of about this length that is one piece over and over, with commas between."""
    count = (length - len(before) - len(after)) // (len(piece) + 1)
    return before + b",".join([piece] * count) + after


@pytest.mark.parametrize(
    ("before", "piece", "after"),
    [
        (b'{"node": {"id": "a", "metadata": {"x": [', b"[]", b"]}}}"),
        (b'{"node": {"id": "a", "metadata": {"tidegate": [', b"[]", b"]}}}"),
        (b'{"node": {"id": "a"}, "resource_names": [', b'"x"', b"]}"),
        (b'{"node": {"id": "a"}, "x": [', b"{}", b"]}"),
    ],
    ids=["metadata", "ours", "names", "unread"],
)
def test_of_a_body_full_of_small_things_none_is_built(
    bench: Bench, before: bytes, piece: bytes, after: bytes
) -> None:
    body = hollow(before, piece, after)
    bench.ask("runtime")  # makes the answer
    tracemalloc.start()
    try:
        with contextlib.suppress(Refusal):
            bench.post("runtime", body)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak_bytes < 64 * 1024


def test_what_a_node_says_of_itself_is_bounded(bench: Bench) -> None:
    clusters = {f"c{number}": ["a.b.example:1"] * 60 for number in range(90)}

    found = refusal(bench, node={**NODE, "metadata": {"tidegate": {"clusters": clusters}}})

    assert (found.status, found.field) == (400, "node.metadata.tidegate")
    assert found.detail == "holds more than 65536 bytes; leave larger clusters static"


def test_no_more_names_are_read_than_a_token_has_resources(bench: Bench) -> None:
    found = refusal(bench, resource_names=["prod/checkout"] * 1000)

    assert (found.status, found.field) == (400, "resource_names")
    assert found.detail == "holds more than 4096 bytes"


def test_a_body_counts_as_several_requests_when_it_is_larger_than_envoys_are() -> None:
    bench = Bench(limit=RateLimit(per_s=1.0, burst=5))
    usual, large = (
        hollow(b'{"node": {"id": "checkout-1"}, "x": [', b"[]", b"]}", length)
        for length in (80_000, MAX_BODY_BYTES)
    )

    bench.post("runtime", usual)
    bench.post("runtime", large)
    bench.post("runtime", usual)
    with pytest.raises(Refusal) as caught:
        bench.post("runtime", large)

    assert caught.value.status == 429


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
            {"node": {**NODE, "metadata": {"tidegate": {"inbound_cluster": ["a"]}}}},
            "node.metadata.tidegate.inbound_cluster",
            "Expected `str`, got `array`",
        ),
        ({"node": {**NODE, "metadata": []}}, "node.metadata", "Expected `object | null`"),
        ({"resource_names": ["x", 7]}, "resource_names[1]", "Expected `str`, got `int`"),
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
