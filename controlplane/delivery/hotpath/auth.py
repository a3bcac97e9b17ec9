"""Bearer tokens of services, looked up by their SHA-256 in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MAX_TOKEN_BYTES = 256


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests that one token may make: a steady rate, and how many at once on top of it."""

    per_s: float = 2_000.0
    burst: int = 20_000

    @property
    def interval_s(self) -> float:
        """What one request costs, in seconds of the steady rate."""
        return 1.0 / self.per_s

    @property
    def burst_s(self) -> float:
        """How far ahead of the clock a token may be, in seconds of the steady rate."""
        return self.burst / self.per_s


@dataclass(slots=True)
class Grant:
    """What one token opens: one service of one environment, until it expires.

    `key` is both names, as the store indexes its slots.
    """

    key: tuple[str, str]
    expires_at_unix: float = math.inf
    full_at_unix: float = 0.0

    def take(self, now_unix: float, limit: RateLimit) -> float:
        """Spend one request; return 0 when allowed, else after how many seconds to come back.

        This is the generic cell rate algorithm: one float per token, no timer. The float moves
        at most one burst ahead of the clock, so more than that means that the clock was set
        back, and must not lock the token out until it has caught up.
        """
        ahead_s = self.full_at_unix - now_unix
        burst_s = limit.burst_s
        if ahead_s < 0.0 or ahead_s > burst_s + 1.0:
            ahead_s = 0.0
        if ahead_s > burst_s:
            return ahead_s - burst_s
        self.full_at_unix = now_unix + ahead_s + limit.interval_s
        return 0.0


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One valid service token as the database holds it: never its text."""

    token_hash: str
    environment: str
    service: str
    expires_at_unix: float | None = None


class TokenTable:
    """Every service token that is not revoked, by the SHA-256 of its text.

    `find_by_digest` returns what a token opens, expired or not; None for an unknown one. A look-up
    by digest takes a time that tells nothing about the text of any token.
    """

    def __init__(self) -> None:
        self._grants: dict[bytes, Grant] = {}
        self.find_by_digest = self._grants.get

    def __len__(self) -> int:
        return len(self._grants)

    def replace(self, records: Iterable[TokenRecord]) -> set[tuple[str, str]]:
        """Make these the only valid tokens; a token that stays keeps what it spent.

        Returns what the tokens that are gone had opened: polls parked there must look again.
        """
        grants: dict[bytes, Grant] = {}
        for record in records:
            digest = bytes.fromhex(record.token_hash)
            expires = math.inf if record.expires_at_unix is None else record.expires_at_unix
            grant = Grant((record.environment, record.service), expires)
            before = self._grants.get(digest)
            if before is not None:
                grant.full_at_unix = before.full_at_unix
            grants[digest] = grant
        gone = {grant.key for digest, grant in self._grants.items() if digest not in grants}
        self._grants = grants
        self.find_by_digest = grants.get
        return gone
