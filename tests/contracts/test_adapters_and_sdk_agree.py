"""A feature is on or off for OpenFeature and for Spring exactly when the SDK says so."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.delivery.adapters.ofrep import Source, find_flag
from controlplane.delivery.adapters.spring import Origin, list_properties
from controlplane.policies.domain.declare import FEATURES
from controlplane.policies.domain.resolve import Layer, resolve
from tidegate.policy import Criticality, parse_policy
from tidegate.shedding import is_shed

SOURCE = Source(sequence=7, version=3, cohort="stable")
ORIGIN = Origin("prod", "checkout", version=3, sequence=7, etag="7-0-ff", cohort="stable")

# Spelled out: what a regular expression generates takes several times as long to make.
names = st.builds(
    str.__add__,
    st.sampled_from(string.ascii_letters),
    st.text(string.ascii_letters + string.digits + "._-", max_size=62),
)
features = st.fixed_dictionaries(
    {},
    optional={
        "enabled": st.booleans(),
        "off_at_level": st.one_of(st.none(), st.integers(1, 3)),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "shedding": st.fixed_dictionaries({}, optional={"level": st.integers(0, 3)}),
        "features": st.dictionaries(names, features),
    },
)


@given(documents)
@settings(max_examples=200)
def test_a_feature_is_on_for_all_or_for_none(inbound: dict[str, Any]) -> None:
    assert all(FEATURES.allows(name) for name in inbound.get("features", {}))
    policy = resolve([Layer("version", "v1", {"inbound": inbound})]).policy
    sdk = parse_policy(policy).inbound
    properties = list_properties(policy, ORIGIN)

    for name in policy["inbound"]["features"]:
        flag = find_flag(policy, name, SOURCE)
        assert flag is not None
        assert flag["value"] is sdk.feature_is_on(name)
        spring = [properties.get(f"tidegate.features{key}") for key in (f".{name}", f"[{name}]")]
        assert [value for value in spring if value is not None] == [sdk.feature_is_on(name)]


@given(st.integers(0, 3))
def test_a_criticality_is_shed_for_all_or_for_none(level: int) -> None:
    policy = resolve([Layer("version", "v1", {"inbound": {"shedding": {"level": level}}})]).policy

    flag = find_flag(policy, "tidegate:sheds", SOURCE)

    assert flag is not None
    assert flag["value"] == {each.value: is_shed(level, each) for each in Criticality}
