"""Durations as people write them."""

from __future__ import annotations

from datetime import timedelta


def duration_words(duration: timedelta) -> str:
    """Return a duration of whole seconds in its largest whole unit: "8 h", "90 min", "5 s"."""
    seconds = int(duration.total_seconds())
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
