"""Which instances a canary reaches: a stable hash, so that no instance moves to and fro."""

from __future__ import annotations

from hashlib import sha256

_POSITIONS = float(1 << 53)  # as many as a double tells apart below 1


def position(salt: str, instance: str) -> float:
    """Return where an instance stands in [0, 1) for the canary with this salt.

    The same for every node and every restart. An instance belongs to the canary when its
    position is below the canary's ratio, so widening a canary only ever adds instances, and
    another salt picks others first.
    """
    digest = sha256(f"{salt}:{instance}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / _POSITIONS
