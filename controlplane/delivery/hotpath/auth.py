"""Bearer tokens of services, looked up by their SHA-256 in memory."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256

from controlplane.delivery.hotpath.problems import come_back, unauthorized

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
        at most one burst and one request ahead of the clock, so a second more than that means that
        the clock was set back, and must not lock the token out until it has caught up.
        """
        ahead_s = self.full_at_unix - now_unix
        burst_s = limit.burst_s
        if ahead_s < 0.0:
            ahead_s = 0.0
        elif ahead_s > burst_s:
            if ahead_s <= burst_s + limit.interval_s + 1.0:
                return ahead_s - burst_s
            ahead_s = 0.0
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
        self._expiring: list[tuple[float, bytes]] = []
        self._expired_until_unix = -math.inf

    def __len__(self) -> int:
        return len(self._grants)

    def replace(self, records: Iterable[TokenRecord]) -> set[tuple[str, str]]:
        """Make these the only valid tokens; a token that stays keeps what it spent.

        Returns what the tokens that are gone had opened, and those whose end was brought forward
        to before the last call of `take_expired`: polls parked there must look again.
        """
        grants: dict[bytes, Grant] = {}
        gone: set[tuple[str, str]] = set()
        for record in records:
            digest = bytes.fromhex(record.token_hash)
            expires = math.inf if record.expires_at_unix is None else record.expires_at_unix
            grant = Grant((record.environment, record.service), expires)
            before = self._grants.get(digest)
            if before is not None:
                grant.full_at_unix = before.full_at_unix
                if expires <= self._expired_until_unix < before.expires_at_unix:
                    gone.add(grant.key)
            grants[digest] = grant
        gone |= {grant.key for digest, grant in self._grants.items() if digest not in grants}
        self._grants = grants
        self.find_by_digest = grants.get
        self._expiring = [
            (grant.expires_at_unix, digest)
            for digest, grant in grants.items()
            if self._expired_until_unix < grant.expires_at_unix < math.inf
        ]
        heapq.heapify(self._expiring)
        return gone

    @property
    def next_expiry_unix(self) -> float:
        """When the next token expires; infinity when none will."""
        return self._expiring[0][0] if self._expiring else math.inf

    def take_expired(self, now_unix: float) -> set[tuple[str, str]]:
        """Return what the tokens that expired since the last call open.

        Polls and streams that are held there must look again: theirs may be such a token, whose
        expiry may have been brought forward while they waited.
        """
        self._expired_until_unix = max(self._expired_until_unix, now_unix)
        keys: set[tuple[str, str]] = set()
        while self.next_expiry_unix <= now_unix:
            keys.add(self._grants[heapq.heappop(self._expiring)[1]].key)
        return keys


def authenticate(
    tokens: TokenTable, authorization: bytes | None, *, now_unix: float, limit: RateLimit
) -> tuple[bytes, Grant]:
    """Return the digest of the presented token and what it opens; one request of it is spent.

    Raises:
        Refusal: 401, no or no valid bearer token; 429, it is used too often.
    """
    digest = read_digest(authorization)
    return digest, spend(tokens, digest, now_unix=now_unix, limit=limit)


def read_digest(authorization: bytes | None) -> bytes:
    """Return the SHA-256 of the presented token.

    Raises:
        Refusal: 401, no bearer token.
    """
    if authorization is None:
        raise unauthorized("a service token is needed: Authorization: Bearer tgs_...")
    scheme, _, token = authorization.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or len(token) > MAX_TOKEN_BYTES:
        raise unauthorized("expected Authorization: Bearer tgs_...")
    return sha256(token).digest()


def spend(tokens: TokenTable, digest: bytes, *, now_unix: float, limit: RateLimit) -> Grant:
    """Return what the token with this SHA-256 opens; one request of it is spent.

    Raises:
        Refusal: 401, it is unknown, revoked or expired; 429, it is used too often.
    """
    grant = check_still_valid(tokens, digest, now_unix=now_unix)
    after_s = grant.take(now_unix, limit)
    if after_s > 0.0:
        raise come_back(
            429,
            "too-many-requests",
            f"this token may make {limit.per_s:g} requests per second",
            after_s=max(1, math.ceil(after_s)),
            spread_s=2,
        )
    return grant


def check_still_valid(tokens: TokenTable, digest: bytes, *, now_unix: float) -> Grant:
    """Return what the token with this SHA-256 opens.

    Raises:
        Refusal: 401, it is unknown, revoked or expired.
    """
    grant = tokens.find_by_digest(digest)
    if grant is None:
        raise unauthorized("the token is unknown or revoked", error="invalid_token")
    if now_unix >= grant.expires_at_unix:
        raise unauthorized("the token has expired", error="invalid_token")
    return grant
