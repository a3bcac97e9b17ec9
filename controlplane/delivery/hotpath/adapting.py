"""What adapters share: the checks before, and the tag and age of, what they answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.delivery.domain.etags import Condition
from controlplane.delivery.hotpath.gate import Gate
from controlplane.delivery.hotpath.headers import read_condition
from controlplane.delivery.hotpath.lanes import Lane
from controlplane.delivery.hotpath.problems import Answer, Refusal, come_back
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import Slot


def check_method(request: Request, *allowed: str) -> None:
    """Check the method of a request.

    Raises:
        Refusal: 405, it is not one of `allowed`.
    """
    if request.method not in allowed:
        raise Refusal(
            405,
            "method-not-allowed",
            f"{request.method} is not for this address; use {allowed[0]}",
            headers=[(b"allow", ", ".join(allowed).encode())],
        )


def check_loaded(gate: Gate) -> None:
    """Check that there is anything to answer from.

    Raises:
        Refusal: 503, policies are not loaded yet.
    """
    if not gate.store.is_loaded:
        raise come_back(503, "not-loaded", "policies are not loaded yet", after_s=1, spread_s=2)


@contextmanager
def reading_policy() -> Iterator[None]:
    """Read a policy within the block.

    Policies are validated before they are published, but a row can be damaged by hand: its
    service is told so, and nobody else notices.

    Raises:
        Refusal: 500, the policy is not the complete one that it should be.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise Refusal(
            500, "unreadable-policy", f"the policy in force is not complete: {problem!r}"
        ) from problem


def read_held(value: bytes | None, revision: bytes) -> Condition | None:
    """Return an If-None-Match on what an adapter answered, as one on the policies behind it.

    `revision` ends each tag of the adapter. None when the request is unconditional.

    Raises:
        Refusal: 400, not a list of entity tags.
    """
    condition = read_condition(value)
    return None if condition is None else condition.on_tags_with(revision)


def is_current(held: Condition | None, slot: Slot, lane: Lane, gate: Gate) -> bool:
    """Say whether a client with this condition has nothing to fetch, by the rule for polls.

    One that was served more by another node is not sent less, and the feed is told what it has.
    """
    if held is None:
        return False
    claimed = held.sequence_above(lane.snapshot.sequence)
    if claimed:
        gate.store.note_claim(claimed, slot.key)
    return lane.is_met_by(held, gate.clock())


def with_age(answer: Answer, gate: Gate) -> Answer:
    """Return the answer, with its age while the database does not confirm it."""
    behind_since_unix = gate.store.behind_since_unix
    if behind_since_unix is None:
        return answer
    age_s = max(0, int(gate.clock() - behind_since_unix))
    return answer.plus(
        (b"age", str(age_s).encode()), (b"warning", b'110 tidegate "Response is Stale"')
    )
