"""When a channel is told, told again, and asked again after it failed."""

from __future__ import annotations

from datetime import datetime, timedelta

from controlplane.notifications.domain.alerts import ENDS_AFTER, ChannelKind, Told
from tidegate.outbound_policy import BackoffPolicy, BudgetPolicy, Jitter, RetryMethods, RetryPolicy
from tidegate.retry import delay_s

REPEAT_EVERY = ENDS_AFTER / 5
"""Well before Alertmanager ends the alert by itself, even if several repetitions fail."""

LEASE = timedelta(seconds=60)
"""How long one sender has a notice to itself: longer than all its calls may take."""

REFUSED_AGAIN_AFTER = timedelta(minutes=5)
"""A channel that refuses what it is told needs a person first."""

RESOLVED_TOLD_WITHIN = timedelta(days=1)
"""For how long a channel that fails is still told of what is over."""

MAX_ASKED_S = 600.0  # a channel may ask for patience, not for silence

RETRIES = RetryPolicy(
    max_attempts=1,  # of one call; the sweep is what tries again
    on=frozenset({"connect_error", "timeout", "503"}),
    methods=RetryMethods.ALL,
    backoff=BackoffPolicy(base_ms=2_000.0, multiplier=2.0, max_ms=60_000.0, jitter=Jitter.FULL),
    budget=BudgetPolicy(ratio=0.1, min_per_s=1.0, window_s=10.0),
)


def next_word(told: Told, *, is_resolved: bool) -> Told | None:
    """Return what a channel is to be told next; None when it knows all there is.

    What began and ended unheard is told in order all the same: first that it fired.
    """
    if told is Told.NOTHING:
        return Told.FIRING
    if told is Told.FIRING and is_resolved:
        return Told.RESOLVED
    return None


def repeat_at(kind: ChannelKind, told: Told, now: datetime) -> datetime | None:
    """Return when a channel that has just been told is told the same again; None for never."""
    if kind is ChannelKind.ALERTMANAGER and told is Told.FIRING:
        return now + REPEAT_EVERY
    return None


def try_again_at(
    attempts: int, *, is_refusal: bool, asked_s: float | None, now: datetime
) -> datetime:
    """Return when to tell a channel again that failed `attempts` times in a row."""
    if is_refusal:
        return now + REFUSED_AGAIN_AFTER
    asked_s = None if asked_s is None else min(asked_s, MAX_ASKED_S)
    # At least two seconds: a channel that fails is not asked again in the same sweep.
    return now + timedelta(seconds=2.0 + delay_s(RETRIES, max(1, attempts), asked_s))
