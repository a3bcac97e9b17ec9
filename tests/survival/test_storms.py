"""Two delivery nodes and one operator node on PostgreSQL and Valkey, in a storm.

It takes what is left of SOAK_MINUTES. `SURVIVAL_ROUNDS` says instead how often each kind of event
happens, `SURVIVAL_PUBLICATIONS` (200) how many publications there are, `SURVIVAL_SEED` which storm
it is: SURVIVAL_ROUNDS=40 takes about twenty minutes.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.soak.figures import Figures
from tests.survival.cluster import Cluster
from tests.survival.storm import Storm, make_events

PUBLICATIONS = int(os.environ.get("SURVIVAL_PUBLICATIONS", "200"))
SEED = os.environ.get("SURVIVAL_SEED", "tidegate")
LONGEST_GAP_S = 2.0
ROUNDS_PER_MINUTE = 2.0
TO_SETTLE_MINUTES = 1.0

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def rounds(figures: Figures) -> int:
    """How often each kind of event happens: as asked, or as often as there is time for."""
    asked = os.environ.get("SURVIVAL_ROUNDS")
    if asked is not None:
        return int(asked)
    return max(1, int((figures.minutes_left - TO_SETTLE_MINUTES) * ROUNDS_PER_MINUTE))


@pytest.mark.longest
def test_no_instance_goes_back_misses_the_last_or_stands_alone_in_a_storm(
    cluster: Cluster, figures: Figures
) -> None:
    dice = random.Random(SEED)

    storm = Storm(cluster, dice, publications=PUBLICATIONS)
    outcome = storm.run(make_events(dice, rounds(figures)))

    print(json.dumps(outcome.report(), indent=1), *outcome.events, sep="\n")
    context = "\n".join([json.dumps(outcome.report()), *outcome.events, cluster.logs()])
    assert len(outcome.published) == PUBLICATIONS, context
    not_in_force = outcome.not_in_force()
    assert not not_in_force, f"acknowledged, and lost: {not_in_force}\n{context}"
    lower = {each.name: each.seen.lower for each in outcome.instances if each.seen.lower}
    assert not lower, f"sent lower sequences: {lower}\n{context}"
    behind = {
        each.name: (each.sequence, outcome.newest[each.service])
        for each in outcome.instances
        if (each.sequence, each.number) != outcome.newest[each.service]
    }
    assert not behind, f"without the last publication: {behind}\n{context}"
    for sdk in outcome.sdk_instances:
        assert sdk.sequence == outcome.newest[sdk.service][0], f"{sdk.name}\n{context}"
        assert sdk.sequences == sorted(sdk.sequences), f"{sdk.name} went back\n{context}"
    figures.note("storm: publications", len(outcome.published), "")
    figures.note("storm: events", len(outcome.events), "")
    figures.check(
        "storm: longest time without an answer",
        max(outcome.gaps(), default=0.0),
        "s",
        at_most=LONGEST_GAP_S,
    )
