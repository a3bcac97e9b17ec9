"""Policies for Envoy: REST discovery of runtime, clusters and routes (`POST /v3/discovery:...`).

Envoy asks every second or two with all it is made of in the body (77 KB), and is answered 304
while it has the newest version. An answer is made once per step, kind and shape of node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import orjson
import structlog

from controlplane.delivery.adapters.xds_cluster_schema import Cluster
from controlplane.delivery.adapters.xds_clusters import clusters
from controlplane.delivery.adapters.xds_node import EnvoyNode
from controlplane.delivery.adapters.xds_route_schema import RouteConfiguration
from controlplane.delivery.adapters.xds_routes import inbound_routes, outbound_routes
from controlplane.delivery.adapters.xds_runtime import runtime
from controlplane.delivery.adapters.xds_schema import Runtime, TypedMessage
from controlplane.delivery.domain.etags import claimed_position
from controlplane.delivery.hotpath.adapting import check_loaded, check_method, with_age
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.headers import Report
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.reports import ReportBuffer
from controlplane.delivery.hotpath.requests import Request, decode_body
from controlplane.delivery.hotpath.store import Slot
from controlplane.delivery.hotpath.xds_answers import KeptAnswers
from controlplane.delivery.hotpath.xds_nodes import NodeTable, etag_in, own_version, version_of
from controlplane.delivery.hotpath.xds_requests import Discovery, read_discovery
from controlplane.policies.domain.schema import PolicyDocument

PREFIX = "/v3/discovery:"
MAX_BODY_BYTES = 256 * 1024
"""How long a body may be, compressed and not: an Envoy 1.40 sends 77 KB."""
BYTES_PER_REQUEST = 96 * 1024
"""A body over this counts as several requests of its token: one more for each further 96 KiB."""
OUTBOUND = "/outbound"

logger = structlog.get_logger(__name__)

Make = Callable[[PolicyDocument, EnvoyNode, Sequence[str]], list[TypedMessage]]
Shape = Callable[[EnvoyNode], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of resource: what it is called, its type, and how it is made for some names.

    `shape` is what of a node its resources depend on.
    """

    name: str
    type_url: str
    make: Make
    shape: Shape


def _runtimes(
    document: PolicyDocument, node: EnvoyNode, names: Sequence[str]
) -> list[TypedMessage]:
    return [runtime(document, node, name) for name in names]


def _clusters(
    document: PolicyDocument, node: EnvoyNode, names: Sequence[str]
) -> list[TypedMessage]:
    return [*clusters(document, node)]


def _routes(document: PolicyDocument, node: EnvoyNode, names: Sequence[str]) -> list[TypedMessage]:
    return [
        outbound_routes(document, node, name)
        if _is_outbound(name)
        else inbound_routes(document, node, name)
        for name in names
    ]


def _is_outbound(name: str) -> bool:
    return name.count("/") == 2  # a service may be called "outbound" itself


def _names_of_clusters(node: EnvoyNode) -> object:
    return node.inbound_cluster, [cluster.name for cluster in node.clusters]


def _hosts_of_clusters(node: EnvoyNode) -> object:
    return node


KINDS = {
    kind.name: kind
    for kind in (
        Kind("runtime", Runtime.type_url, _runtimes, _names_of_clusters),
        Kind("clusters", Cluster.type_url, _clusters, _hosts_of_clusters),
        Kind("routes", RouteConfiguration.type_url, _routes, _names_of_clusters),
    )
}


class XdsAdapter:
    """Answers discovery requests from the snapshots that the config API serves."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, gate: Gate, reports: ReportBuffer) -> None:
        self._gate = gate
        self._reports = reports
        self._nodes = NodeTable()
        self._answers = KeptAnswers(gate.clock)

    def answer(self, request: Request) -> Answer:
        """Return the resources in force, or 304 when the node has them.

        Raises:
            Refusal: 400, 405, 413, 415, the request; 401, 403, 429, its token; 404, what it asks
                for; 503, the policy cannot be said in Envoy's words.
        """
        kind = KINDS.get(request.path.removeprefix(PREFIX))
        if kind is None:
            raise Refusal(404, "unknown-kind", f"discovery is of {', '.join(KINDS)}", field="path")
        check_method(request, "POST")
        check_loaded(self._gate)
        digest, grant = self._gate.enter(request.header(b"authorization"))
        coding = request.header(b"content-encoding")
        body = decode_body(request.body, coding, max_bytes=MAX_BODY_BYTES)
        self._gate.charge(digest, len(body) // BYTES_PER_REQUEST)
        asked = _checked(read_discovery(body, kind.type_url), kind, *grant.key)
        slot = self._gate.open(grant, *grant.key)
        lane = slot.lane(asked.node_id)
        etag = self._etag_to_have(asked.version_info, slot, lane)
        answer: Answer | None = None
        try:
            if asked.version_info == version_of(etag, kind.name):
                answer = _NOT_MODIFIED
            else:
                answer = self._full(slot, lane, kind, asked.node, asked.names)
        finally:
            # What it has is worth noting in any case, but a refusal has sent it nothing.
            self._note(slot, etag, kind, asked, is_sent=answer is not None)
        return with_age(answer, self._gate)

    def _etag_to_have(self, version_info: str | None, slot: Slot, lane: Lane) -> str:
        """What the node is to have: the step in force, or the later one that it has already.

        Behind a load balancer it may ask a delivery node that lags, or whose clock does. Envoy
        cannot refuse an older policy as our clients do, so it is not sent one.
        """
        has = None if version_info is None else etag_in(version_info)
        claimed = None if has is None else claimed_position(has)
        known = lane.snapshot.sequence
        if has is None or claimed is None or claimed <= (known, lane.index):
            return lane.step.etag
        if claimed[0] > known:
            self._gate.store.note_claim(claimed[0], slot.key)
        return has

    def _note(self, slot: Slot, etag: str, kind: Kind, asked: Discovery, *, is_sent: bool) -> None:
        now_unix = self._gate.clock()
        subscription = " ".join((kind.name, *filter(_is_outbound, asked.names)))
        standing, is_new = self._nodes.take(
            slot.key,
            asked.node_id,
            subscription,
            has=asked.version_info,
            etag=etag,
            kind=kind.name,
            is_sent=is_sent,
            now_unix=now_unix,
        )
        applied, rejected = _tag(standing.applied), _tag(standing.rejected)
        report = Report(
            instance=asked.node_id,
            applied=applied,
            rejected=rejected,
            reason=standing.reason,
            sdk=asked.sdk,
        )
        self._reports.note(slot, report, (applied, rejected), is_fetching=is_new, now_unix=now_unix)

    def _full(
        self, slot: Slot, lane: Lane, kind: Kind, node: EnvoyNode, names: tuple[str, ...]
    ) -> Answer:
        # A digest: what a node says of itself may be long, and is kept with the answer.
        shape = sha256(orjson.dumps(kind.shape(node))).digest()
        answer = self._answers.get(
            slot.key,
            (slot.key, lane.step.etag, kind.name, shape, names),
            lambda: self._make(slot, lane, kind, node, names),
        )
        if answer is None:
            raise Refusal(
                503, "not-mapped", f"this policy has no {kind.name} that Envoy may be sent"
            )
        return answer

    def _make(
        self, slot: Slot, lane: Lane, kind: Kind, node: EnvoyNode, names: tuple[str, ...]
    ) -> Answer | None:
        try:
            document = PolicyDocument.model_validate(lane.policy)
            resources = [each.wire() for each in kind.make(document, node, names)]
        except ValueError as problem:
            # Ours to mend; Envoy keeps what it has. Remembered, so that it is said once.
            logger.error(
                "xds.not_mapped", service="/".join(slot.key), kind=kind.name,
                etag=lane.step.etag, problem=str(problem),
            )  # fmt: skip
            return None
        made = orjson.dumps(
            {
                "version_info": version_of(lane.step.etag, kind.name),
                "type_url": kind.type_url,
                "resources": resources,
            }
        )
        # It is kept, and orjson hands out its buffer, which is up to three times as long.
        body = bytes(memoryview(made))
        return Answer(
            200,
            (
                (b"content-type", b"application/json"),
                (b"content-length", str(len(body)).encode()),
                (b"cache-control", b"no-store"),
            ),
            body,
        )


def _checked(asked: Discovery, kind: Kind, environment: str, service: str) -> Discovery:
    """Return the request with the names and the version that a token for this service can have.

    Both are kept for each node, so nothing of them may be what the client made up.
    """
    return replace(
        asked,
        names=_check_names(asked.names, kind, environment, service),
        version_info=own_version(asked.version_info, kind.name),
    )


def _check_names(
    names: tuple[str, ...], kind: Kind, environment: str, service: str
) -> tuple[str, ...]:
    """The resources to send. The token decides whose they are; names only have to agree."""
    own = f"{environment}/{service}"
    allowed = {"runtime": (own,), "routes": (own, own + OUTBOUND)}.get(kind.name)
    if allowed is None:
        return ()
    for name in names:
        if name not in allowed:
            raise Refusal(
                404,
                "unknown-resource",
                f"this token is for {' or '.join(allowed)} only",
                field="resource_names",
            )
    return names or (own,)


def _tag(etag: str | None) -> bytes | None:
    return None if etag is None else b'"' + etag.encode("ascii") + b'"'


_NOT_MODIFIED = Answer(304, ((b"cache-control", b"no-store"),))
