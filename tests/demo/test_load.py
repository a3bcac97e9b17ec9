"""The load: a day's curve, a mix that adds up, and a hot tenant that only adds its own traffic."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from demo import traffic
from deploy.local.problems import SetupProblem

DAY = [datetime(2026, 11, 2, hour, tzinfo=UTC).timestamp() for hour in range(24)]


def test_the_rate_stays_within_what_two_cores_carry() -> None:
    rates = [traffic.rate_per_s(start + minute * 60) for start in DAY for minute in range(60)]

    assert 20 < min(rates) < max(rates) < 40


def test_the_afternoon_is_busier_than_the_night() -> None:
    assert traffic.rate_per_s(DAY[14]) > 1.2 * traffic.rate_per_s(DAY[2])


@pytest.mark.parametrize(
    "weights",
    [traffic.TENANT_WEIGHTS, traffic.CRITICALITY_WEIGHTS, traffic.PATH_WEIGHTS],
    ids=["tenants", "criticalities", "paths"],
)
def test_every_mix_adds_up_to_one(weights: dict[str, float]) -> None:
    assert sum(weights.values()) == pytest.approx(1.0)


def test_a_hot_tenant_adds_its_own_traffic_and_leaves_the_others_alone() -> None:
    usual = traffic.load_factor({})
    hot = traffic.load_factor({"acme": 6.0})

    assert usual == pytest.approx(1.0)
    assert hot == pytest.approx(1.0 + 5 * traffic.TENANT_WEIGHTS["acme"])


def test_visits_follow_the_mix() -> None:
    chance = random.Random(7)

    visits = [traffic.draw_visit({"acme": 6.0}, chance) for _ in range(4000)]

    tenants = Counter(visit.tenant for visit in visits)
    share = 6 * 0.4 / (6 * 0.4 + 0.6)
    assert tenants["acme"] / len(visits) == pytest.approx(share, abs=0.03)
    assert {visit.criticality for visit in visits} == set(traffic.CRITICALITY_WEIGHTS)
    assert {visit.method for visit in visits if visit.path == "/orders"} == {"POST"}


def test_arrivals_come_at_the_rate_whatever_became_of_those_before() -> None:
    chance = random.Random(7)

    gaps = [traffic.next_gap_s(30.0, chance) for _ in range(6000)]

    assert sum(gaps) / len(gaps) == pytest.approx(1 / 30, rel=0.05)


@pytest.mark.parametrize(
    ("variables", "per_s"),
    [({}, 30.0), ({"DEMO_LOAD_PER_S": ""}, 30.0), ({"DEMO_LOAD_PER_S": "2.5"}, 2.5)],
)
def test_the_load_is_as_high_as_the_environment_says(
    variables: dict[str, str], per_s: float
) -> None:
    assert traffic.read_base_per_s(variables) == per_s
    assert traffic.rate_per_s(DAY[2], per_s) == pytest.approx(
        traffic.rate_per_s(DAY[2]) * per_s / 30.0
    )


@pytest.mark.parametrize("text", ["much", "0", "-3", "nan", "inf", "1001"])
def test_a_load_that_is_no_rate_is_refused_by_name(text: str) -> None:
    with pytest.raises(SetupProblem, match=f"DEMO_LOAD_PER_S is '{text}'; expected requests"):
        traffic.read_base_per_s({"DEMO_LOAD_PER_S": text})
