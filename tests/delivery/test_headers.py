"""What a poll's headers mean, and their bounds."""

from __future__ import annotations

import pytest

from controlplane.delivery.hotpath.headers import (
    accepted_form,
    choose_coding,
    read_last_event_id,
    read_rejection,
    read_report,
    read_wait_s,
)
from controlplane.delivery.hotpath.problems import Refusal


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        (b"wait=30", 30),
        (b"WAIT = 30", 30),
        (b'wait="30"', 30),
        (b"respond-async, wait=12; x=1", 12),
        (b"wait=5, wait=9", 5),
        (b"wait=3600", 60),
        (b"wait=0", 0),
        (b"wait=-1", 0),
        (b"wait=1.5", 0),
        (b"wait=soon", 0),
        (b"wait=9999999999", 60),
        (b"wait=" + b"9" * 5_000, 60),
        (b"wait=007", 7),
        (b'wait="10', 0),
        (b'wait=10"', 0),
        (b"await=5", 0),
        (b"", 0),
    ],
)
def test_a_wait_preference_is_capped_or_ignored(value: bytes | None, seconds: int) -> None:
    assert read_wait_s(value) == seconds


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        (None, True),
        (b"", True),
        (b"*/*", True),
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"text/html, application/*;q=0.2", True),
        (b"text/html;q=1, */*;q=0.1", True),
        (b"text/event-stream", True),
        (b"application/json;q=0", False),
        (b"application/json;q=0, */*;q=1", False),
        (b"*/*;q=0, application/json", True),
        (b"application/json;q=nonsense", False),
        (b"application/xml", False),
    ],
)
def test_an_accept_header_leaves_room_for_us_or_not(value: bytes | None, is_accepted: bool) -> None:
    assert (accepted_form(value) is not None) == is_accepted


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (None, b"application/json"),
        (b"*/*", b"application/json"),
        (b"text/event-stream", b"text/event-stream"),
        (b"text/event-stream, application/json", b"application/json"),
        (b"text/event-stream, application/json;q=0.5", b"text/event-stream"),
        (b"text/*", b"text/event-stream"),
        (b"text/event-stream;q=0, */*", b"application/json"),
        (b"text/html", None),
    ],
)
def test_an_accept_header_chooses_between_json_and_a_stream(
    value: bytes | None, form: bytes | None
) -> None:
    assert accepted_form(value) == form


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (None, b""),
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br", b"br"),
        (b"br;q=0.5, gzip;q=0.8", b"gzip"),
        (b"*", b"br"),
        (b"br;q=0, *", b"gzip"),
        (b"identity", b""),
        (b"gzip;q=0", b""),
        (b"gzip;q=x", b""),
        (b"gzip;q=nan", b""),
        (b"gzip;q=7", b""),
        (b"identity;q=1, gzip;q=0.1", b""),
        (b"identity;q=0.5, gzip", b"gzip"),
    ],
)
def test_the_best_content_coding_the_client_takes_is_chosen(
    value: bytes | None, coding: bytes
) -> None:
    assert choose_coding(value) == coding


@pytest.mark.parametrize(
    ("value", "sequence"),
    [(None, None), (b"7", 7), (b"", None), (b"-7", None), (b"7-0-9f3c", None), (b"9" * 19, None)],
)
def test_a_last_event_id_that_is_not_ours_counts_as_none(
    value: bytes | None, sequence: int | None
) -> None:
    assert read_last_event_id(value) == sequence


def test_a_rejection_names_its_tag_and_its_reason() -> None:
    rejection = read_rejection(b'W/"7-0-9f3c"; reason="unknown field \\"x\\" in inbound"')

    assert rejection.tag == b'"7-0-9f3c"'
    assert rejection.reason == 'unknown field "x" in inbound'


@pytest.mark.parametrize("reason", ["zu groß".encode(), "zu groß".encode("latin-1")])
def test_a_reason_may_be_utf_8_or_latin_1(reason: bytes) -> None:
    assert read_rejection(b'"a"; reason="' + reason + b'"').reason == "zu groß"


def test_a_rejection_may_come_without_a_reason() -> None:
    assert read_rejection(b'"a"').reason == ""


@pytest.mark.parametrize(
    "value",
    [
        b"a",
        b'"a"; because="x"',
        b'"a"; reason=x',
        b'"a"; reason="x',
        b'"a"; reason="x\ny"',
        b'"a", "b"',
        b'"a"; reason="' + b"x" * 501 + b'"',
    ],
)
def test_a_malformed_rejection_is_refused(value: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read_rejection(value)

    assert (caught.value.status, caught.value.field) == (400, "Tidegate-Rejected")


def test_a_poll_without_an_instance_reports_nothing() -> None:
    assert read_report({b"user-agent": b"curl"}) is None


def test_a_report_keeps_a_bounded_part_of_the_user_agent() -> None:
    report = read_report({b"tidegate-instance": b"checkout-1", b"user-agent": b"x" * 500})

    assert report is not None
    assert report.sdk == "x" * 120
