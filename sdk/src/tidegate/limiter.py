"""Limits on how fast requests may come, and on how many may run at once.

Nothing here knows HTTP, policy layers or metrics: buckets take `now_s`, gates wait on the event
loop. Both are retuned in place, so a policy change forgets neither tokens nor requests in flight.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Protocol

from tidegate.policy import ConcurrencyPolicy, Mode, RatePolicy, TenantsPolicy

MAX_TENANTS = 10_000
NEVER_S = 60.0  # what "try again" says when the rate is zero
LONGEST_WAIT_S = 3600.0  # what it says at most, however small the rate


class TokenBucket:
    """At most `burst` at once and `per_s` a second in the long run; starts full.

    A rate of zero refuses everything. A burst below one counts as one.
    """

    __slots__ = ("_at_s", "_capacity", "_per_s", "_tokens")

    def __init__(self, rate: RatePolicy, now_s: float) -> None:
        self._per_s = rate.per_s
        self._capacity = _capacity(rate)
        self._tokens = self._capacity
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take one token and say whether there was one. A clock that goes back adds nothing."""
        tokens = self._tokens
        elapsed_s = now_s - self._at_s
        if elapsed_s > 0.0:
            self._at_s = now_s
            tokens += elapsed_s * self._per_s
            if tokens > self._capacity:
                tokens = self._capacity
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return True
        self._tokens = tokens
        return False

    def put_back(self) -> None:
        """Return a token taken for a request that another limit refused."""
        self._tokens = min(self._capacity, self._tokens + 1.0)

    def tokens(self, now_s: float) -> float:
        """Return how many tokens there are at `now_s`."""
        earned = max(0.0, now_s - self._at_s) * self._per_s
        return min(self._capacity, self._tokens + earned)

    def is_full(self, now_s: float) -> bool:
        """Say whether the bucket remembers nothing that a new one would not know."""
        return self.tokens(now_s) >= self._capacity

    def wait_s(self, now_s: float) -> float:
        """Return the time until the next token, an hour at most: always a finite number."""
        missing = 1.0 - self.tokens(now_s)
        if missing <= 0.0:
            return 0.0
        if self._per_s <= 0.0:
            return NEVER_S
        return min(missing / self._per_s, LONGEST_WAIT_S)

    def retune(self, rate: RatePolicy, now_s: float) -> None:
        """Adopt another rate; tokens in hand stay, as far as the new burst holds them."""
        self._tokens = min(self.tokens(now_s), _capacity(rate))
        self._at_s = max(now_s, self._at_s)
        self._per_s = rate.per_s
        self._capacity = _capacity(rate)


def _capacity(rate: RatePolicy) -> float:
    return max(1.0, rate.burst) if rate.per_s > 0.0 else 0.0


class TenantBuckets:
    """One bucket per tenant, in bounded memory.

    Tenants named by the policy always keep theirs. Of the others, the `max_tenants` most recent
    do; the oldest makes room only once its bucket is full again, and until then newcomers share
    one bucket: neither memory nor a flood of made-up names gets anybody past the limit.
    """

    __slots__ = ("_default", "_max_tenants", "_named", "_others", "_shared", "enforced")

    def __init__(
        self, policy: TenantsPolicy, now_s: float, *, max_tenants: int = MAX_TENANTS
    ) -> None:
        self._max_tenants = max_tenants
        self._named: dict[str, TokenBucket] = {}
        self._others: OrderedDict[str, TokenBucket] = OrderedDict()
        self._shared: TokenBucket | None = None
        self._default: RatePolicy | None = None
        self.enforced = True
        self.retune(policy, now_s)

    def bucket_of(self, tenant: str, now_s: float) -> TokenBucket | None:
        """Return the tenant's bucket; None when the policy does not limit it."""
        bucket = self._named.get(tenant)
        if bucket is not None:
            return bucket
        bucket = self._others.get(tenant)
        if bucket is None:
            return self._newcomer(tenant, now_s)
        self._others.move_to_end(tenant)
        return bucket

    def retune(self, policy: TenantsPolicy, now_s: float) -> None:
        """Adopt another policy; every tenant keeps the tokens it has left."""
        known = {**self._others, **self._named}
        self.enforced = policy.mode is Mode.ENFORCE
        self._default = policy.default
        self._named = {
            name: _retuned(known.pop(name, None), rate, now_s)
            for name, rate in policy.named.items()
        }
        self._others = OrderedDict()
        self._shared = None
        if policy.default is not None:
            self._shared = TokenBucket(policy.default, now_s)
            for name, bucket in known.items():
                self._others[name] = _retuned(bucket, policy.default, now_s)

    @property
    def known(self) -> int:
        """How many tenants have a bucket of their own."""
        return len(self._named) + len(self._others)

    def _newcomer(self, tenant: str, now_s: float) -> TokenBucket | None:
        if self._default is None:
            return None
        if len(self._others) >= self._max_tenants:
            oldest = next(iter(self._others))
            if not self._others[oldest].is_full(now_s):
                return self._shared
            del self._others[oldest]
        bucket = self._others[tenant] = TokenBucket(self._default, now_s)
        return bucket


def _retuned(bucket: TokenBucket | None, rate: RatePolicy, now_s: float) -> TokenBucket:
    if bucket is None:
        return TokenBucket(rate, now_s)
    bucket.retune(rate, now_s)
    return bucket


class Place(Protocol):
    """What waits in a queue: an asyncio future, or in threads one of `concurrent.futures`."""

    def done(self) -> bool:
        """Whether it is over, because a place was given or because nobody waits any more."""
        ...

    def set_result(self, result: bool, /) -> None:
        """Give it a place."""
        ...


class ConcurrencyGate:
    """At most `max` inside at once, and a bounded queue in which nobody waits long.

    First come, first served. `enter_now` and `wait` give a place, `leave` returns it. In threads
    `queue_up` and `withdraw` take the place of `wait`, all of it under a lock of the caller.
    """

    __slots__ = ("_max", "_queue_max", "_queue_timeout_s", "_waiters", "enforced", "inside")

    def __init__(self, policy: ConcurrencyPolicy) -> None:
        self.inside = 0
        self.enforced = True
        self._waiters: deque[Place] = deque()
        self._max = self._queue_max = 0
        self._queue_timeout_s = 0.0
        self.retune(policy)

    @property
    def waiting(self) -> int:
        """How many wait in the queue."""
        return len(self._waiters)

    def enter_now(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self.inside < self._max and not self._waiters:
            self.inside += 1
            return True
        return False

    def enter_anyway(self) -> str:
        """Take a place beyond the limit (shadow); say why it would have been refused.

        Empty when the queue would have had room: whether it waited too long is unknowable.
        """
        over = self.inside - self._max
        self.inside += 1
        return self._overflow() if over >= self._queue_max else ""

    async def wait(self, at_most_s: float) -> str:
        """Wait for a place; return why there was none, or nothing when this request has one.

        Reasons: `concurrency` (there is no queue), `queue_full`, `queue_timeout`, and `deadline`
        when `at_most_s`, the time the request has left, ran out first.
        """
        loop = asyncio.get_running_loop()
        place: asyncio.Future[bool] = loop.create_future()
        reason = self.queue_up(place)
        if reason:
            return reason
        timer = loop.call_later(self.patience_s(at_most_s), _give_up, place)
        try:
            if await place:
                return ""
        except asyncio.CancelledError:
            # Granted and cancelled in the same turn of the loop: the place goes to the next.
            if place.done() and not place.cancelled() and place.result():
                self.leave()
            raise
        finally:
            timer.cancel()
            self.withdraw(place)
        return self.lateness(at_most_s)

    def queue_up(self, place: Place) -> str:
        """Wait for `place` to be given True; return why there is no room, or nothing."""
        if len(self._waiters) >= self._queue_max:
            return self._overflow()
        self._waiters.append(place)
        return ""

    def withdraw(self, place: Place) -> None:
        """Wait no more; nothing happens when the place was given already."""
        if place in self._waiters:
            self._waiters.remove(place)

    def patience_s(self, at_most_s: float) -> float:
        """How long to wait for a place, for a request that has `at_most_s` left."""
        return min(self._queue_timeout_s, at_most_s)

    def lateness(self, at_most_s: float) -> str:
        """Why a request with `at_most_s` left waited in vain."""
        return "deadline" if at_most_s < self._queue_timeout_s else "queue_timeout"

    def leave(self) -> None:
        """Return a place, and give it to whoever waits longest."""
        self.inside -= 1
        if self._waiters:
            self._admit()

    def retune(self, policy: ConcurrencyPolicy) -> None:
        """Adopt other limits; those inside stay, and those who now fit come in."""
        self._max = policy.max
        self._queue_max = policy.queue.max
        self._queue_timeout_s = policy.queue.timeout_ms / 1000.0
        self.enforced = policy.mode is Mode.ENFORCE
        self._admit()

    def abandon(self) -> None:
        """Let nobody wait here any more; whoever is inside may still leave."""
        self._waiters.clear()

    def _admit(self) -> None:
        while self._waiters and (self.inside < self._max or not self.enforced):
            place = self._waiters.popleft()
            if not place.done():
                self.inside += 1
                place.set_result(True)

    def _overflow(self) -> str:
        return "queue_full" if self._queue_max else "concurrency"


def _give_up(place: asyncio.Future[bool]) -> None:
    if not place.done():
        place.set_result(False)
