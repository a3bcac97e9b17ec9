"""What decides whether a benchmark's figure counts: sizes of answers, quantiles, bars."""

from __future__ import annotations

import pytest

from benchmarks.harness.load import WrongAnswer, answer_size
from benchmarks.harness.machine import quantile
from benchmarks.harness.tables import Bar, print_bars

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

UNCHANGED = b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\n\r\n'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", None),
        (HEAD, len(HEAD) + 5),
        (HEAD + b"hello", len(HEAD) + 5),
        (UNCHANGED, len(UNCHANGED)),
        (CHUNKED + b"5\r\nhello\r\n", None),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", len(CHUNKED) + 15),
    ],
    ids=["half a head", "no body yet", "whole", "304", "half of chunks", "all chunks"],
)
def test_an_answer_is_complete_when_its_own_head_says_so(data: bytes, size: int | None) -> None:
    assert answer_size(data) == size


def test_an_answer_that_does_not_say_how_long_it_is_voids_the_run() -> None:
    with pytest.raises(WrongAnswer, match="without a length"):
        answer_size(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n")


def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    values = list(range(100, 0, -1))

    assert [quantile(values, ratio) for ratio in (0.5, 0.99, 1.0)] == [50, 99, 100]


@pytest.mark.parametrize(
    ("bar", "is_met"),
    [
        (Bar("ratio", 0.85, 0.85), True),
        (Bar("ratio", 0.84, 0.85), False),
        (Bar("p99", 250.0, 250, is_least=False), True),
        (Bar("p99", 250.1, 250, is_least=False), False),
        (Bar("needs a program that is not here", None, 3), True),
    ],
    ids=["just enough", "too little", "just in time", "too late", "not judged"],
)
def test_a_bar_decides_only_what_was_measured(
    bar: Bar, is_met: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_bars([bar]) is is_met

    verdict = capsys.readouterr().out
    assert ("not judged" in verdict) == (bar.value is None)
    assert ("MISSED" in verdict) != is_met
