"""What a poll says in its headers, parsed strictly and within bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from controlplane.delivery.domain.etags import BadTag, Condition, parse_condition, parse_tag
from controlplane.delivery.hotpath.problems import Refusal

MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
MAX_WAIT_S = 60
MAX_REASON_CHARACTERS = 500
MAX_SDK_CHARACTERS = 120
MAX_SEQUENCE_DIGITS = 18

REMEMBERED_VALUES = 512
MAX_REMEMBERED_BYTES = 200

Result = TypeVar("Result")


def _remembering(read: Callable[[bytes], Result]) -> Callable[[bytes], Result]:
    """Read each short value once: a fleet says the same few things over and over."""
    remembered = lru_cache(REMEMBERED_VALUES)(read)

    def read_or_recall(value: bytes) -> Result:
        return remembered(value) if len(value) <= MAX_REMEMBERED_BYTES else read(value)

    return read_or_recall


_KNOWN = {
    b"authorization": "Authorization",
    b"accept": "Accept",
    b"accept-encoding": "Accept-Encoding",
    b"if-none-match": "If-None-Match",
    b"prefer": "Prefer",
    b"tidegate-instance": "Tidegate-Instance",
    b"tidegate-applied": "Tidegate-Applied",
    b"tidegate-rejected": "Tidegate-Rejected",
    b"last-event-id": "Last-Event-ID",
    b"user-agent": "User-Agent",
}
# Fields that are lists (RFC 9110, 5.3): several of them mean the same as one with commas.
_LISTS = frozenset({b"accept", b"accept-encoding", b"if-none-match", b"prefer"})
_INSTANCE = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")
_REJECTED = re.compile(
    rb'((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")'
    rb'(?:[ \t]*;[ \t]*reason="((?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\.)*)")?[ \t]*',
)
_WAIT = re.compile(rb'wait[ \t]*=[ \t]*("?)(\d+)\1', re.IGNORECASE)
_QUALITY = re.compile(rb"0(?:\.\d*)?|1(?:\.0*)?")
_JSON, _STREAM = b"application/json", b"text/event-stream"
# What an element of Accept stands for, and how precisely it says so.
_MEDIA = {
    _JSON: (_JSON, 2), b"application/*": (_JSON, 1), b"*/*": (_JSON, 0),
    _STREAM: (_STREAM, 2), b"text/*": (_STREAM, 1),
}  # fmt: skip
_CODINGS = (b"br", b"gzip")  # the best first


@dataclass(frozen=True, slots=True)
class Report:
    """What a poll says about its sender: who it is and what it enforces."""

    instance: bytes
    applied: bytes | None
    rejected: bytes | None
    reason: str
    sdk: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """A publication that an instance could not apply, and why."""

    tag: bytes
    reason: str


def read_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers this API reads, by lower-case name.

    Raises:
        Refusal: 431 for too many or too large ones, 400 when one that may not repeat does.
    """
    fields: dict[bytes, bytes] = {}
    count = size = 0
    for name, value in headers:
        count += 1
        size += len(name) + len(value)
        if name not in _KNOWN:
            continue
        if name not in fields:
            fields[name] = value
        elif name in _LISTS:
            fields[name] += b", " + value
        else:
            raise Refusal(
                400, "repeated-header", f"{_KNOWN[name]} appears more than once", field=_KNOWN[name]
            )
    if count > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise Refusal(
            431,
            "headers-too-large",
            f"{count} headers of {size} bytes; at most {MAX_HEADERS} of "
            f"{MAX_HEADER_BYTES} bytes together are read",
        )
    return fields


def read_condition(value: bytes | None) -> Condition | None:
    """Return the If-None-Match condition; None when the request is unconditional.

    Raises:
        Refusal: 400, not a list of entity tags.
    """
    if value is None:
        return None
    try:
        return _recall_condition(value)
    except BadTag as problem:
        raise _bad("If-None-Match", str(problem)) from None


def read_wait_s(value: bytes | None) -> int:
    """Return how long the client would wait for a change, in seconds, at most 60; 0 for not.

    A preference that does not parse is ignored, as RFC 7240 asks.
    """
    return 0 if value is None else _parse_wait_s(value)


@_remembering
def _parse_wait_s(value: bytes) -> int:
    for preference in value.split(b","):
        match = _WAIT.fullmatch(preference.split(b";")[0].strip(b" \t"))
        if match is not None:
            significant = match[2].lstrip(b"0")[:4]  # of any length: it is a long time then
            return min(int(significant or b"0"), MAX_WAIT_S)
    return 0


def accepted_form(value: bytes | None) -> bytes | None:
    """Return what an Accept header prefers: JSON, a stream of events, or None for neither.

    JSON when both are as welcome, and when nothing is said.
    """
    return _JSON if value is None or not value.strip() else _parse_accept(value)


@_remembering
def _parse_accept(value: bytes) -> bytes | None:
    best: dict[bytes, tuple[int, float]] = {_JSON: (-1, 0.0), _STREAM: (-1, 0.0)}
    for element in value.lower().split(b","):
        media, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        if media in _MEDIA:
            # The most specific range decides (RFC 9110, 12.5.1), whatever the order.
            form, precision = _MEDIA[media]
            best[form] = max(best[form], (precision, _quality(parameters)))
    form = max((_JSON, _STREAM), key=lambda each: best[each][1])
    return form if best[form][1] > 0.0 else None


def choose_coding(value: bytes | None) -> bytes:
    """Return the content coding for an answer, by Accept-Encoding: `br`, `gzip` or none (b"")."""
    return _parse_accept_encoding(value) if value else b""


@_remembering
def _parse_accept_encoding(value: bytes) -> bytes:
    qualities: dict[bytes, float] = {}
    for element in value.lower().split(b","):
        coding, *parameters = (part.strip(b" \t") for part in element.split(b";"))
        qualities[coding] = _quality(parameters)
    anything_else = qualities.get(b"*", 0.0)
    chosen = max(_CODINGS, key=lambda coding: qualities.get(coding, anything_else))
    quality = qualities.get(chosen, anything_else)
    # As it is only when the client would rather have it so (RFC 9110, 12.5.3).
    return chosen if quality > 0.0 and quality >= qualities.get(b"identity", 0.0) else b""


def read_last_event_id(value: bytes | None) -> int | None:
    """Return the sequence a stream's client had last; None for none, or one that is not ours.

    A cursor we cannot read gets the present policy, never an error.
    """
    if value is None or not value.isdigit() or len(value) > MAX_SEQUENCE_DIGITS:
        return None
    return int(value)


def read_report(fields: dict[bytes, bytes]) -> Report | None:
    """Return what the sender says of itself; None when it does not name itself.

    Raises:
        Refusal: 400, one of the Tidegate headers is malformed, too long, or says what an
            unnamed instance enforces.
    """
    instance = fields.get(b"tidegate-instance")
    applied = fields.get(b"tidegate-applied")
    rejected = fields.get(b"tidegate-rejected")
    if instance is None:
        if applied is not None or rejected is not None:
            raise _bad("Tidegate-Instance", "is missing; an acknowledgement names its instance")
        return None
    if _INSTANCE.fullmatch(instance) is None:
        raise _bad("Tidegate-Instance", "expected 1 to 128 of: letters, digits, . _ : -")
    rejection = None if rejected is None else read_rejection(rejected)
    return Report(
        instance=instance,
        applied=None if applied is None else _read_tag("Tidegate-Applied", applied),
        rejected=None if rejection is None else rejection.tag,
        reason="" if rejection is None else rejection.reason,
        sdk=_decode_sdk(fields.get(b"user-agent", b"")),
    )


def read_rejection(value: bytes) -> Rejection:
    """Read `"<etag>"; reason="..."`; the reason may be absent and is UTF-8 or Latin-1.

    Raises:
        Refusal: 400, another form, or a reason of more than 500 characters.
    """
    match = _REJECTED.fullmatch(value)
    if match is None:
        raise _bad("Tidegate-Rejected", 'expected "<etag>"; reason="why it could not be applied"')
    raw = re.sub(rb"\\(.)", rb"\1", match[2] or b"")
    try:
        reason = raw.decode()
    except UnicodeDecodeError:
        reason = raw.decode("latin-1")
    if len(reason) > MAX_REASON_CHARACTERS:
        raise _bad(
            "Tidegate-Rejected", f"a reason holds at most {MAX_REASON_CHARACTERS} characters"
        )
    return Rejection(tag=_read_tag("Tidegate-Rejected", match[1]), reason=reason)


_recall_condition = _remembering(parse_condition)
_recall_tag = _remembering(parse_tag)


@_remembering
def _decode_sdk(value: bytes) -> str:
    return value.decode("latin-1")[:MAX_SDK_CHARACTERS]


def _read_tag(name: str, value: bytes) -> bytes:
    try:
        return _recall_tag(value)
    except BadTag as problem:
        raise _bad(name, str(problem)) from None


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        if parameter.startswith(b"q="):
            return float(parameter[2:]) if _QUALITY.fullmatch(parameter[2:]) else 0.0
    return 1.0


def _bad(name: str, problem: str) -> Refusal:
    return Refusal(400, "bad-header", f"{name}: {problem}", field=name)
