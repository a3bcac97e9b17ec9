"""Which step of a snapshot is in force, by the clock alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from controlplane.delivery.domain.snapshot import Step

EARLY_S = 5.0
"""How far ahead of ours a client's clock may run before its own switch looks wrong to us."""


def step_index(steps: Sequence[Step], now_unix: float) -> int:
    """Return the index of the step in force at `now_unix`; the first one before all of them."""
    index = 0
    while index + 1 < len(steps) and steps[index + 1].at_unix <= now_unix:
        index += 1
    return index


def next_due_unix(steps: Sequence[Step], index: int) -> float:
    """Return when the step after `index` takes over; infinity when there is none."""
    return steps[index + 1].at_unix if index + 1 < len(steps) else math.inf


def early_tags(steps: Sequence[Step], index: int, now_unix: float) -> tuple[bytes, ...]:
    """Return the tags of later steps that a client with a fast clock may enforce already.

    Sending such a client back to the present step would make it switch to and fro, at the speed
    of its polls, until our clock has caught up with its own.
    """
    return tuple(step.tag for step in steps[index + 1 :] if step.at_unix - now_unix <= EARLY_S)
