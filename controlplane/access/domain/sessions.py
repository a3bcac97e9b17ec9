"""When a session ends: some time after its last use, and in any case some time after sign-in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

NOTED_EVERY = timedelta(minutes=1)
"""Use is written down so often at most: each time is a write to the database."""


@dataclass(frozen=True, slots=True)
class SessionLife:
    """When a session began, and when somebody last used it."""

    began_at: datetime
    used_at: datetime

    def is_over(self, *, idle: timedelta, longest: timedelta, now: datetime) -> bool:
        """Return whether it was left alone for `idle`, or began `longest` ago."""
        return now - self.used_at >= idle or now - self.began_at >= longest

    def is_worth_noting(self, *, now: datetime) -> bool:
        """Return whether the present use is so much later that it should be written down."""
        return now - self.used_at >= NOTED_EVERY
