"""Answers to Envoys are kept, within bounds of memory and of the time it takes to make them."""

from __future__ import annotations

import pytest

from controlplane.delivery.hotpath import xds_answers
from controlplane.delivery.hotpath.problems import Answer, Refusal
from controlplane.delivery.hotpath.xds_answers import KeptAnswers
from tests.delivery.builders import Clock


def test_a_service_whose_nodes_all_differ_pays_with_its_own_time(clock_s: list[float]) -> None:
    wall = Clock()
    answers = KeptAnswers(wall, timer=lambda: clock_s[0])

    def ask(service: str, shape: int) -> Answer | None:
        def make() -> Answer:
            clock_s[0] += 0.4
            return Answer(200, (), b"%d" % shape)

        return answers.get(("prod", service), (service, shape), make)

    for shape in range(3):
        ask("checkout", shape)
    with pytest.raises(Refusal, match="differ in too many ways") as caught:
        ask("checkout", 3)

    assert caught.value.status == 429
    assert (found := ask("checkout", 0)) is not None
    assert found.body == b"0"
    ask("payments", 0)
    wall.pass_s(10.0)
    ask("checkout", 3)


def test_answers_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xds_answers, "MAX_KEPT_BYTES", 5_000)
    answers, made = KeptAnswers(Clock()), []

    def ask(shape: int) -> None:
        answers.get(("prod", "checkout"), shape, lambda: made.append(shape))

    for shape in (0, 1, 2, 3, 4, 5, 5, 0):
        ask(shape)

    assert made == [0, 1, 2, 3, 4, 5, 0]


@pytest.fixture
def clock_s() -> list[float]:
    return [0.0]
