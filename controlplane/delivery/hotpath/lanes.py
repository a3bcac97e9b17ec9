"""What one cohort of one service is answered now: bytes, made once and shared by every answer."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import brotli
import orjson

from controlplane.delivery.domain.cohorts import position
from controlplane.delivery.domain.etags import Condition
from controlplane.delivery.domain.schedule import early_tags, next_due_unix, step_index
from controlplane.delivery.domain.snapshot import Snapshot, Step
from controlplane.delivery.hotpath.problems import Answer, Headers
from controlplane.delivery.hotpath.wakeups import Waiter

Sign = Callable[[bytes], bytes]
"""Makes the Tidegate-Signature of a body."""

VARY = b"Authorization, Accept, Accept-Encoding, Prefer"
COMPRESS_FROM_BYTES = 512
_COMPRESS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"br": lambda body: bytes(brotli.compress(body, quality=5)),
    b"gzip": lambda body: gzip.compress(body, compresslevel=6, mtime=0),
}


class Lane:
    """One cohort's snapshot, the step of it in force, and who waits for that to change.

    `not_modified` is the 304, ready to send. Full answers, compressed ones and the event of a
    stream are made when they are first wanted, and kept until the step ends.
    """

    __slots__ = (
        "_answers", "_event", "_policy", "_signature", "due_unix", "index", "not_modified",
        "snapshot", "step", "tag", "waiters",
    )  # fmt: skip

    step: Step
    _policy: Mapping[str, Any] | None
    _answers: dict[tuple[bytes | None, int], Answer]
    _event: bytes | None
    _signature: bytes | None

    def __init__(self, snapshot: Snapshot, now_unix: float) -> None:
        self.waiters: dict[Waiter, None] = {}
        self.put(snapshot, now_unix)

    def put(self, snapshot: Snapshot, now_unix: float) -> None:
        """Serve `snapshot` from now on, at the step its schedule gives for `now_unix`."""
        self.snapshot = snapshot
        self._stand_at(step_index(snapshot.steps, now_unix))

    def advance(self, now_unix: float) -> bool:
        """Move to the step in force at `now_unix`; say whether it is another one.

        Steps only go forward: a clock that is set back does not bring an ended override back.
        """
        index = step_index(self.snapshot.steps, now_unix)
        if index <= self.index:
            return False
        self._stand_at(index)
        return True

    def reaches(self, instance: bytes | None) -> bool:
        """Say whether an instance belongs to this cohort, when it is a part of all."""
        if instance is None or self.snapshot.ratio <= 0.0:
            return False
        return position(self.snapshot.salt, instance.decode("latin-1")) < self.snapshot.ratio

    def is_met_by(self, condition: Condition, now_unix: float) -> bool:
        """Say whether a client with this If-None-Match has nothing to fetch.

        That is so as well while it holds a later publication than this process knows yet.
        """
        if condition.matches(self.tag) or condition.sequence_above(self.snapshot.sequence):
            return True
        if self.due_unix == math.inf:
            return False
        early = early_tags(self.snapshot.steps, self.index, now_unix)
        return any(condition.matches(tag) for tag in early)

    @property
    def policy(self) -> Mapping[str, Any]:
        """The effective policy in force, parsed once per step. Not for writing."""
        policy = self._policy
        if policy is None:
            policy = self._policy = cast(
                "Mapping[str, Any]", orjson.loads(self.step.body)["policy"]
            )
        return policy

    def full(self, coding: bytes, sign: Sign | None, *, waited_s: int = 0) -> Answer:
        """Return the 200 in a content coding (b"br", b"gzip" or b"" for none), after a wait."""
        answer = self._answers.get((coding, waited_s))
        if answer is None:
            if waited_s:
                answer = _after_wait(self.full(coding, sign), waited_s)
            else:
                answer = self._make_full(coding, sign)
            self._answers[coding, waited_s] = answer
        return answer

    def unchanged(self, waited_s: int) -> Answer:
        """Return the 304 after a wait."""
        if not waited_s:
            return self.not_modified
        answer = self._answers.get((None, waited_s))
        if answer is None:
            answer = self._answers[None, waited_s] = _after_wait(self.not_modified, waited_s)
        return answer

    def event(self, sign: Sign | None) -> bytes:
        """Return the event of a stream that carries this step."""
        if self._event is None:
            signature = self._sign(sign)
            # A field that other clients do not know is ignored by them (WHATWG HTML, 9.2.6).
            signed = b"" if signature is None else b"signature: " + signature + b"\n"
            self._event = b"event: config\nid: %d\n%sdata: %s\n\n" % (
                self.snapshot.sequence, signed, self.step.body,
            )  # fmt: skip
        return self._event

    def forget_answers(self) -> None:
        """Make answers anew when they are next wanted: the signing key is another one."""
        self._answers = {}
        self._event = None
        self._signature = None

    def _make_full(self, coding: bytes, sign: Sign | None) -> Answer:
        body = self.step.body
        coded: Headers = ()
        if coding and len(body) >= COMPRESS_FROM_BYTES:
            body = _COMPRESS[coding](body)
            coded = ((b"content-encoding", coding),)
        signature = self._sign(sign)
        signed: Headers = () if signature is None else ((b"tidegate-signature", signature),)
        headers = (
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *coded,
            *self.not_modified.headers,
            *signed,
        )
        return Answer(200, headers, body)

    def _sign(self, sign: Sign | None) -> bytes | None:
        # The signature covers the body as it is before any coding.
        if self._signature is None and sign is not None:
            self._signature = sign(self.step.body)
        return self._signature

    def _stand_at(self, index: int) -> None:
        self.index = index
        self.step = self.snapshot.steps[index]
        self.due_unix = next_due_unix(self.snapshot.steps, index)
        self.tag = self.step.tag
        self._policy = None
        self.not_modified = Answer(
            304,
            (
                (b"etag", self.tag),
                (b"tidegate-sequence", str(self.snapshot.sequence).encode()),
                (b"cache-control", b"no-store"),
                (b"vary", VARY),
            ),
        )
        self.forget_answers()


def _after_wait(answer: Answer, waited_s: int) -> Answer:
    return answer.plus((b"preference-applied", b"wait=%d" % waited_s))
