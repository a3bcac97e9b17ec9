"""One poll of the config API, read from its request."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.delivery.domain.etags import Condition
from controlplane.delivery.hotpath.headers import (
    Report,
    accepted_form,
    choose_coding,
    read_condition,
    read_last_event_id,
    read_report,
    read_wait_s,
)
from controlplane.delivery.hotpath.problems import Refusal
from controlplane.delivery.hotpath.requests import Request
from controlplane.delivery.hotpath.store import Slot

MAX_URI_BYTES = 512


@dataclass(slots=True)
class Poll:
    """One request that passed every check of its form.

    `tag` is the only tag of its If-None-Match, as it stands there: what a poll usually has.
    `may_be_quick` says that nothing in it but the present state can make the answer unusual.
    """

    slot: Slot
    digest: bytes
    condition: Condition | None
    tag: bytes | None
    wait_s: int
    is_stream: bool
    is_head: bool
    coding: bytes
    last_event_id: int | None
    report: Report | None
    raw_report: tuple[bytes | None, bytes | None]
    may_be_quick: bool

    @property
    def instance(self) -> bytes | None:
        """Who polls; None when it does not name itself."""
        return None if self.report is None else self.report.instance


def read_poll(request: Request, fields: dict[bytes, bytes], slot: Slot, digest: bytes) -> Poll:
    """Return what a request with these (known) header fields asks of `slot`.

    Raises:
        Refusal: 406, it accepts neither JSON nor a stream; 400, a header is malformed.
    """
    form = accepted_form(fields.get(b"accept"))
    if form is None:
        raise Refusal(
            406,
            "not-acceptable",
            "this answers application/json and text/event-stream only",
            field="Accept",
        )
    is_stream = form == b"text/event-stream"
    if is_stream and request.method == "HEAD":
        raise Refusal(406, "not-acceptable", "a stream has no HEAD", field="Accept")
    condition = read_condition(fields.get(b"if-none-match"))
    wait_s = 0 if request.method == "HEAD" else read_wait_s(fields.get(b"prefer"))
    tags = () if condition is None or condition.is_any else tuple(condition.tags)
    return Poll(
        slot=slot,
        digest=digest,
        condition=condition,
        tag=tags[0] if len(tags) == 1 else None,
        wait_s=wait_s,
        is_stream=is_stream,
        is_head=request.method == "HEAD",
        coding=choose_coding(fields.get(b"accept-encoding")),
        last_event_id=read_last_event_id(fields.get(b"last-event-id")),
        report=read_report(fields),
        raw_report=(fields.get(b"tidegate-applied"), fields.get(b"tidegate-rejected")),
        may_be_quick=(request.method == "GET" and not is_stream and not wait_s and len(tags) == 1),
    )


def check_request_line(request: Request) -> None:
    """Check method and length of the address.

    Raises:
        Refusal: 405, neither GET nor HEAD; 414, the address is too long.
    """
    if request.method not in ("GET", "HEAD"):
        raise Refusal(
            405,
            "method-not-allowed",
            f"{request.method} is not for this address; use GET",
            headers=[(b"allow", b"GET, HEAD")],
        )
    if len(request.path) + len(request.query) > MAX_URI_BYTES:
        raise Refusal(414, "uri-too-long", f"an address holds at most {MAX_URI_BYTES} bytes")
