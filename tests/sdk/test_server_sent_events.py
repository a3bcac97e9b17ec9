"""The event parser: whatever the chunks, line ends and comments, the events are the same."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.sse import Event, EventParser, MalformedStream

CONFIG = b'retry: 2500\n: hello\n\nevent: config\nid: 7\nsignature: a..b\ndata: {"a": 1}\n\n'


def events_of(*chunks: bytes, **bounds: int) -> list[Event]:
    parser = EventParser(**bounds)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def test_a_config_event_comes_with_its_id_and_its_signature() -> None:
    parser = EventParser()

    events = list(parser.feed(CONFIG))

    assert events == [Event("config", b'{"a": 1}', "7", "a..b")]
    assert parser.retry_ms == 2500


line_end = st.sampled_from([b"\r\n", b"\n", b"\r"])
value = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=12
).map(str.encode)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[Event]]:
    """A stream with any line ends, comments and a BOM, and the events that it means."""
    stream = bytearray(draw(st.sampled_from([b"", b"\xef\xbb\xbf"])))
    meant, last_id = [], ""

    def line(text: bytes) -> None:
        # After a CR, an empty line that ends in LF would be no line but the CR's second half.
        no_lf = not text and stream.endswith(b"\r")
        stream.extend(text + draw(st.just(b"\r\n") if no_lf else line_end))

    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(["", "config", "reconnect"]))
        data = draw(st.lists(value, min_size=1, max_size=4))
        signature = draw(st.sampled_from([None, "e30..c2ln"]))
        if draw(st.booleans()):
            line(b":" + draw(value))
        if draw(st.booleans()):
            last_id = draw(st.text("0123456789", min_size=1, max_size=6))
            line(b"id: " + last_id.encode())
        if name:
            line(b"event: " + name.encode())
        if signature:
            line(b"signature:" + signature.encode())
        for part in data:
            # One space after the colon belongs to the field, so a value that begins with
            # one needs another.
            line(b"data: " + part)
        line(b"")
        meant.append(Event(name or "message", b"\n".join(data), last_id, signature))
    return bytes(stream), meant


@given(streams(), st.lists(st.integers(0, 400), max_size=12))
def test_chunk_boundaries_change_nothing(
    stream: tuple[bytes, list[Event]], cuts: list[int]
) -> None:
    sent, meant = stream
    places = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    chunks = [sent[start:end] for start, end in itertools.pairwise(places)]

    assert events_of(*chunks) == meant


@given(streams())
def test_byte_by_byte_is_the_same_too(stream: tuple[bytes, list[Event]]) -> None:
    sent, meant = stream

    assert events_of(*(sent[index : index + 1] for index in range(len(sent)))) == meant


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_at_all_are_read_or_refused_within_bounds(chunks: list[bytes]) -> None:
    parser = EventParser(max_line_bytes=30, max_event_bytes=40)
    try:
        for chunk in chunks:
            assert all(len(event.data) <= 40 for event in parser.feed(chunk))
    except MalformedStream:
        return


def test_a_crlf_that_is_cut_in_two_is_one_line_end() -> None:
    assert events_of(b"data: 1\r", b"\n\r", b"\ndata: 2\r\n\r\n") == [
        Event("message", b"1", ""),
        Event("message", b"2", ""),
    ]


def test_lines_of_data_are_joined_and_bytes_stay_as_they_are() -> None:
    assert events_of(b"data: a\ndata:\ndata:  \xff b\n\n") == [
        Event("message", b"a\n\n \xff b", "")
    ]


def test_an_event_without_data_or_without_its_end_is_none() -> None:
    assert events_of(b"event: config\nid: 9\n\n", b"data: half") == []


def test_the_id_stays_until_another_and_one_with_a_nul_is_ignored() -> None:
    sent = b"id: 7\ndata: a\n\nid: 8\0\ndata: b\n\nid\ndata: c\n\n"

    assert [event.id for event in events_of(sent)] == ["7", "7", ""]


@pytest.mark.parametrize("retry", [b"soon", b"-1", b"1.5", b"", b"9" * 10, "٣".encode()])
def test_a_senseless_retry_is_ignored(retry: bytes) -> None:
    parser = EventParser()

    list(parser.feed(b"retry: " + retry + b"\n\n"))

    assert parser.retry_ms is None


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ([b"data: " + b"x" * 100], "a line is longer than 50 bytes"),
        ([b"data: 123456"] * 5, "a line is longer than 50 bytes"),
        ([b":" + b"x" * 60 + b"\n"], "a line is longer than 50 bytes"),
        ([b"data: 1234567890\n"] * 8, "an event is larger than 80 bytes"),
        ([b"data:\n" * 90], "an event is larger than 80 bytes"),
    ],
    ids=["one chunk", "many chunks", "comment", "many lines", "empty lines"],
)
def test_what_has_no_end_is_refused_before_it_fills_the_memory(
    sent: list[bytes], message: str
) -> None:
    with pytest.raises(MalformedStream, match=message):
        events_of(*sent, max_line_bytes=50, max_event_bytes=80)
