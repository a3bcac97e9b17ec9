"""What Envoys have taken of what they were sent, from the only thing they tell: `version_info`.

REST discovery has no refusal: an Envoy that cannot take a resource goes on asking with the
version of the last one it took. One lost answer looks the same, so a version counts as refused
when it was sent REFUSED_AFTER times and the node still asks with another.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from controlplane.delivery.hotpath.store import ServiceKey

REFUSED_AFTER = 3
FORGET_S = 120.0
"""A subscription that was not seen for so long is no longer one of the node's."""
FORGET_NODE_S = 3600.0
WATCHED_S = 5.0
WATCHED_POLLS = 3
"""From when on all subscriptions of a node are known: until then it may refuse what it has not
asked for yet. Gaps between polls are one to two times the refresh delay, so that in three polls of
one subscription there is one of every other with the same delay; of shorter ones, in 5 s.
"""
MAX_NODES_PER_SERVICE = 10_000

_VERSION = re.compile(r"([\x21\x23-\x2e\x30-\x7e]{1,128})/([a-z]{1,16})")


def version_of(etag: str, kind: str) -> str:
    """Return the version_info of one kind of resource: opaque to Envoy, unlike for each kind."""
    return f"{etag}/{kind}"


def own_version(version_info: str | None, kind: str) -> str | None:
    """Return a version_info that is ours and of this kind, as it is; None for any other.

    What is none of ours says nothing, and is not kept: it may be of any length.
    """
    match = None if version_info is None else _VERSION.fullmatch(version_info)
    return version_info if match is not None and match[2] == kind else None


def etag_in(version_info: str) -> str | None:
    """Return the entity tag in a version_info of ours; None for a foreign one."""
    match = _VERSION.fullmatch(version_info)
    return match[1] if match else None


@dataclass(slots=True)
class Subscription:
    """One kind of resource of one node: what it has, and how often it was sent something else."""

    version: str | None
    seen_at_unix: float
    polls: int = 0
    offered: str = ""
    offers: int = 0

    def offer(self, version: str) -> bool:
        """Count that it is sent this version; say whether for the first time."""
        if self.offered != version:
            self.offered, self.offers = version, 1
            return True
        self.offers += 1
        return False

    def refuses(self, etag: str) -> bool:
        """Say whether it was sent what is in force often enough to have taken it."""
        return self.offers > REFUSED_AFTER and etag_in(self.offered) == etag


@dataclass(slots=True)
class Standing:
    """What a node enforces and what it refuses, as entity tags without quotes; None for nothing."""

    applied: str | None = None
    rejected: str | None = None
    reason: str = ""


@dataclass(slots=True)
class Node:
    """One Envoy: its subscriptions by name, and its standing after its last request.

    `is_watched` says that all its subscriptions have been seen, and stays.
    """

    first_seen_unix: float
    seen_at_unix: float
    is_watched: bool = False
    subscriptions: dict[str, Subscription] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing)


class NodeTable:
    """The Envoys of each service, as many as MAX_NODES_PER_SERVICE; the longest silent go first.

    One that was silent for an hour goes with the next request of another. A node that was
    forgotten is known again after its next requests: nothing is lost but the count of what it was
    sent.
    """

    def __init__(self, *, max_per_service: int = MAX_NODES_PER_SERVICE) -> None:
        self._services: dict[ServiceKey, OrderedDict[bytes, Node]] = {}
        self._max_per_service = max_per_service

    def take(
        self,
        key: ServiceKey,
        node_id: bytes,
        subscription: str,
        *,
        has: str | None,
        etag: str,
        kind: str,
        is_sent: bool,
        now_unix: float,
    ) -> tuple[Standing, bool]:
        """Note one request, and return how the node stands and whether this version is new to it.

        Args:
            subscription: which resources of which kind it asks for.
            has: the version_info it sent; None when it has none yet.
            etag: of the step in force, which it is to have.
            is_sent: it is sent that, unless it has it; a request that is refused sends nothing.
        """
        node = self._find(key, node_id, now_unix)
        current = version_of(etag, kind)
        known = node.subscriptions.get(subscription)
        if known is None:
            known = node.subscriptions[subscription] = Subscription(has, now_unix)
        known.version, known.seen_at_unix = has, now_unix
        known.polls += 1
        is_new = False
        if has == current:
            known.offered, known.offers = "", 0
        elif is_sent:
            is_new = known.offer(current)
        node.standing = _judge(node, etag, now_unix)
        return node.standing, is_new

    def _find(self, key: ServiceKey, node_id: bytes, now_unix: float) -> Node:
        nodes = self._services.setdefault(key, OrderedDict())
        node = nodes.get(node_id)
        if node is None:
            node = nodes[node_id] = Node(now_unix, now_unix)
        nodes.move_to_end(node_id)
        node.seen_at_unix = now_unix
        silent_since_unix = now_unix - FORGET_NODE_S
        while (
            len(nodes) > self._max_per_service
            or next(iter(nodes.values())).seen_at_unix < silent_since_unix
        ):
            nodes.popitem(last=False)
        return node


def _judge(node: Node, etag: str, now_unix: float) -> Standing:
    """Applied is what all subscriptions have; until they agree, what they agreed on before.

    Of a node that is new here, such as after a start of this process, only after a while: a
    subscription that refuses may not have asked yet.
    """
    live = {
        name: each
        for name, each in node.subscriptions.items()
        if now_unix - each.seen_at_unix <= FORGET_S
    }
    node.subscriptions = live
    node.is_watched = node.is_watched or _is_watched(node, now_unix)
    refusing = sorted(name for name, each in live.items() if each.refuses(etag))
    if refusing:
        older = live[refusing[0]].version
        return Standing(
            applied=None if older is None else etag_in(older),
            rejected=etag,
            reason=_reason(refusing),
        )
    etags = {None if each.version is None else etag_in(each.version) for each in live.values()}
    agreed = etags.pop() if node.is_watched and len(etags) == 1 else None
    return Standing(applied=agreed or node.standing.applied)


def _is_watched(node: Node, now_unix: float) -> bool:
    node.first_seen_unix = min(node.first_seen_unix, now_unix)  # the clock was set back
    for_s = now_unix - node.first_seen_unix
    polled_least = min(each.polls for each in node.subscriptions.values())
    return for_s > FORGET_S or (for_s >= WATCHED_S and polled_least >= WATCHED_POLLS)


def _reason(refusing: list[str]) -> str:
    names = " and ".join(refusing)
    return (
        f"Envoy does not take the {names}: sent {REFUSED_AFTER} times, and it still asks with an "
        "older version. Its log names the field (rejected), its admin page counts update_rejected."
    )
