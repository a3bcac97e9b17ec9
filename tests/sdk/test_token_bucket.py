from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.limiter import LONGEST_WAIT_S, NEVER_S, TenantBuckets, TokenBucket
from tidegate.policy import RatePolicy, TenantsPolicy

rates = st.builds(
    RatePolicy,
    per_s=st.floats(0.1, 1000),
    burst=st.floats(1, 100),
)
pauses_s = st.lists(st.floats(0, 5), min_size=1, max_size=200)


def taken(bucket: TokenBucket, now_s: float, tries: int) -> int:
    return sum(bucket.take(now_s) for _ in range(tries))


@given(rates, pauses_s)
def test_no_stretch_of_time_gets_more_than_the_burst_and_the_rate(
    rate: RatePolicy, pauses: list[float]
) -> None:
    bucket = TokenBucket(rate, 0.0)
    now_s, granted = 0.0, [0.0]
    for pause_s in pauses:
        now_s += pause_s
        granted += [now_s] * taken(bucket, now_s, 3)

    moments = granted[1:]
    for first, start_s in enumerate(moments):
        allowed = rate.burst + (now_s - start_s) * rate.per_s
        assert len(moments) - first <= allowed + 1e-6


@given(rates, pauses_s)
def test_whoever_stays_under_the_rate_is_never_refused(
    rate: RatePolicy, pauses: list[float]
) -> None:
    bucket = TokenBucket(rate, 0.0)
    now_s = 0.0

    for pause_s in pauses:
        now_s += pause_s + 1.0001 / rate.per_s
        assert bucket.take(now_s)


@given(rates, rates, pauses_s)
def test_retuning_never_invents_tokens(
    before: RatePolicy, after: RatePolicy, pauses: list[float]
) -> None:
    bucket = TokenBucket(before, 0.0)
    now_s = sum(pauses)
    bucket.take(now_s)
    left = bucket.tokens(now_s)

    bucket.retune(after, now_s)

    assert bucket.tokens(now_s) == min(left, after.burst)


@given(rates, st.floats(0, 100))
def test_after_the_advised_wait_there_is_a_token(rate: RatePolicy, start_s: float) -> None:
    bucket = TokenBucket(rate, start_s)
    while bucket.take(start_s):
        pass

    later_s = start_s + bucket.wait_s(start_s) + 1e-6

    assert bucket.take(later_s)


def test_a_clock_that_goes_back_adds_nothing() -> None:
    bucket = TokenBucket(RatePolicy(per_s=10, burst=1), 100.0)

    assert [bucket.take(at_s) for at_s in (100.0, 50.0, 100.05, 100.11)] == [
        True,
        False,
        False,
        True,
    ]


def test_the_smallest_rate_still_names_a_finite_wait() -> None:
    bucket = TokenBucket(RatePolicy(per_s=5e-324, burst=1), 0.0)
    assert taken(bucket, 0.0, 2) == 1

    assert bucket.wait_s(0.0) == LONGEST_WAIT_S


def test_a_rate_of_zero_refuses_everything() -> None:
    bucket = TokenBucket(RatePolicy(per_s=0, burst=10), 0.0)

    assert not bucket.take(1_000.0)
    assert bucket.wait_s(1_000.0) == NEVER_S


def test_a_burst_below_one_still_lets_the_rate_through() -> None:
    bucket = TokenBucket(RatePolicy(per_s=1, burst=0), 0.0)

    assert taken(bucket, 0.0, 2) == 1
    assert taken(bucket, 1.0, 2) == 1


def test_a_returned_token_can_be_taken_again_and_never_overfills() -> None:
    bucket = TokenBucket(RatePolicy(per_s=1, burst=2), 0.0)
    bucket.take(0.0)

    bucket.put_back()
    bucket.put_back()

    assert bucket.tokens(0.0) == 2.0


def test_named_tenants_have_their_own_rate_and_the_rest_the_default() -> None:
    buckets = TenantBuckets(tenants(default=2, acme=5), 0.0)

    assert drained(buckets, "acme", 0.0) == 5
    assert drained(buckets, "globex", 0.0) == 2
    assert drained(buckets, "initech", 0.0) == 2


def test_without_a_default_only_named_tenants_are_limited_or_remembered() -> None:
    buckets = TenantBuckets(tenants(default=None, acme=5), 0.0)

    assert buckets.bucket_of("globex", 0.0) is None
    assert buckets.known == 1


def test_a_flood_of_made_up_tenants_shares_one_bucket_and_bounded_memory() -> None:
    buckets = TenantBuckets(tenants(default=2), 0.0, max_tenants=10)

    served = sum(drained(buckets, f"made-up-{number}", 0.0) for number in range(1000))

    assert buckets.known == 10
    assert served == 10 * 2 + 2


def test_a_tenant_at_its_limit_keeps_its_empty_bucket_while_others_flood() -> None:
    buckets = TenantBuckets(tenants(default=2), 0.0, max_tenants=2)
    drained(buckets, "hot", 0.0)

    for number in range(100):
        drained(buckets, f"made-up-{number}", 0.1)

    assert drained(buckets, "hot", 0.2) == 0


def test_a_tenant_not_seen_for_long_makes_room() -> None:
    buckets = TenantBuckets(tenants(default=2), 0.0, max_tenants=1)
    drained(buckets, "old", 0.0)

    assert drained(buckets, "new", 100.0) == 2
    assert buckets.known == 1


def test_retuning_keeps_what_each_tenant_has_left() -> None:
    buckets = TenantBuckets(tenants(default=4, acme=4), 0.0)
    drained(buckets, "acme", 0.0)
    drained(buckets, "globex", 0.0)

    buckets.retune(tenants(default=8, globex=8), 0.0)

    assert drained(buckets, "acme", 0.0) == 0
    assert drained(buckets, "globex", 0.0) == 0
    assert drained(buckets, "initech", 0.0) == 8


def tenants(default: float | None, **named: float) -> TenantsPolicy:
    return TenantsPolicy(
        default=None if default is None else RatePolicy(per_s=1, burst=default),
        named={name: RatePolicy(per_s=1, burst=burst) for name, burst in named.items()},
    )


def drained(buckets: TenantBuckets, tenant: str, now_s: float) -> int:
    bucket = buckets.bucket_of(tenant, now_s)
    assert bucket is not None
    return taken(bucket, now_s, 20)
