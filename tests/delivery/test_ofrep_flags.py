"""How features and the shed level are put into flags."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.delivery.adapters.ofrep import Source, find_flag, list_flags
from controlplane.policies.domain.declare import FEATURES
from tests.delivery.adapters import features
from tests.delivery.ofrep_protocol import BULK_SUCCESS, SUCCESS, check

SOURCE = Source(sequence=41, version=3, cohort="stable")
PUBLICATION = {"sequence": 41, "version": 3, "cohort": "stable"}


@pytest.mark.parametrize(
    ("feature", "level", "value", "reason", "metadata"),
    [
        pytest.param(
            {}, 3, True, "STATIC",
            {"enabled": True, "shed_level": 3, "decided_by": "enabled"},
            id="without a level it stays on",
        ),
        pytest.param(
            {"off_at_level": 2}, 1, True, "TARGETING_MATCH",
            {"enabled": True, "shed_level": 1, "off_at_level": 2, "decided_by": "off_at_level"},
            id="below its level",
        ),
        pytest.param(
            {"off_at_level": 2}, 2, False, "TARGETING_MATCH",
            {"enabled": True, "shed_level": 2, "off_at_level": 2, "decided_by": "off_at_level"},
            id="at its level",
        ),
        pytest.param(
            {"enabled": False}, 0, False, "DISABLED",
            {"enabled": False, "shed_level": 0, "decided_by": "enabled"},
            id="turned off",
        ),
        pytest.param(
            {"enabled": False, "off_at_level": 1}, 0, False, "DISABLED",
            {"enabled": False, "shed_level": 0, "off_at_level": 1, "decided_by": "enabled"},
            id="turned off, whatever its level",
        ),
    ],
)  # fmt: skip
def test_a_feature_is_a_boolean_flag_that_says_what_decided_it(
    feature: dict[str, Any], level: int, value: bool, reason: str, metadata: dict[str, Any]
) -> None:
    flag = find_flag(features(level, search=feature), "search", SOURCE)

    assert flag == {
        "key": "search",
        "value": value,
        "reason": reason,
        "variant": "on" if value else "off",
        "metadata": {**metadata, **PUBLICATION},
    }
    check(flag, SUCCESS)


@pytest.mark.parametrize(
    ("level", "shed"),
    [
        (0, set()),
        (1, {"sheddable"}),
        (2, {"sheddable", "sheddable_plus"}),
        (3, {"sheddable", "sheddable_plus", "critical"}),
    ],
)
def test_the_shed_level_is_a_number_and_an_object(level: int, shed: set[str]) -> None:
    number = find_flag(features(level), "tidegate:shed_level", SOURCE)
    sheds = find_flag(features(level), "tidegate:sheds", SOURCE)

    assert number is not None
    assert sheds is not None
    assert (number["value"], number["variant"]) == (level, f"level-{level}")
    assert {name for name, is_shed in sheds["value"].items() if is_shed} == shed
    assert set(sheds["value"]) == {"critical_plus", "critical", "sheddable_plus", "sheddable"}
    check(number, SUCCESS)
    check(sheds, SUCCESS)


def test_the_default_criticality_is_text() -> None:
    flag = find_flag(features(), "tidegate:default_criticality", SOURCE)

    assert flag is not None
    assert flag["value"] == flag["variant"] == "critical"
    check(flag, SUCCESS)


def test_an_unknown_flag_has_no_evaluation() -> None:
    assert find_flag(features(search={}), "serach", SOURCE) is None
    assert find_flag(features(search={}), "tidegate:nothing", SOURCE) is None


def test_no_feature_can_have_the_name_of_one_of_our_flags() -> None:
    own = [flag["key"] for flag in list_flags(features(), SOURCE)]

    assert len(own) == 3
    assert not any(FEATURES.allows(key) for key in own)


def test_all_flags_are_those_asked_for_one_by_one() -> None:
    policy = features(1, search={"off_at_level": 1}, ads={"enabled": False}, related={})

    flags = list_flags(policy, SOURCE)

    assert [flag["key"] for flag in flags] == [
        "search", "ads", "related",
        "tidegate:shed_level", "tidegate:sheds", "tidegate:default_criticality",
    ]  # fmt: skip
    assert flags == [find_flag(policy, flag["key"], SOURCE) for flag in flags]
    check({"flags": flags}, BULK_SUCCESS)
