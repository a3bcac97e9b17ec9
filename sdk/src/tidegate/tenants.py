"""Requests by tenant, with a bounded number of names: the largest, the rest as `other`."""

from collections.abc import Iterable

from tidegate.series import Count, Family

OTHER_TENANT = "other"
MAX_CANDIDATES = 1_000
ELECTION_EVERY = 1_000  # requests of unnamed tenants


class TenantSeries:
    """The counters of one tenant, and how many requests it sent since the last election."""

    __slots__ = ("accepted", "limited", "recent", "rejected")

    def __init__(self, family: Family[Count], tenant: str) -> None:
        self.accepted = family.child(tenant, "accepted")
        self.limited = family.child(tenant, "limited")
        self.rejected = family.child(tenant, "rejected")
        self.recent = 0


class TenantTally:
    """Chooses which tenants are counted by name.

    Those the policy names always are. Free places go to whoever comes first; later, a tenant
    takes the place of another when it sent more than twice as much since the last election.
    A tenant that loses its place loses its series: Prometheus reads the return as a restart.
    """

    __slots__ = ("_candidates", "_family", "_max_named", "_named", "_other", "_pinned", "_unnamed")

    def __init__(self, family: Family[Count], max_named: int = 20) -> None:
        self._family = family
        self._max_named = max_named
        self._named: dict[str, TenantSeries] = {}
        self._pinned: frozenset[str] = frozenset()
        self._candidates: dict[str, int] = {}
        self._unnamed = 0
        self._other: TenantSeries | None = None

    def series_of(self, tenant: str) -> TenantSeries:
        """Return the counters for one request of `tenant`, and remember that it came."""
        series = self._named.get(tenant)
        if series is None:
            series = self._name_or_other(tenant)
        series.recent += 1
        return series

    def pin(self, tenants: Iterable[str]) -> None:
        """Count these by name from now on, however little they send."""
        self._pinned = frozenset(tenants)
        for tenant in self._pinned:
            if tenant not in self._named:
                self._named[tenant] = TenantSeries(self._family, tenant)

    def _name_or_other(self, tenant: str) -> TenantSeries:
        if len(self._named) < self._max_named + len(self._pinned) and tenant != OTHER_TENANT:
            series = self._named[tenant] = TenantSeries(self._family, tenant)
            return series
        if self._other is None:
            self._other = TenantSeries(self._family, OTHER_TENANT)
        if tenant in self._candidates or len(self._candidates) < MAX_CANDIDATES:
            self._candidates[tenant] = self._candidates.get(tenant, 0) + 1
        self._unnamed += 1
        if self._unnamed >= ELECTION_EVERY:
            self._elect()
        return self._other

    def _elect(self) -> None:
        strongest = sorted(self._candidates.items(), key=lambda item: item[1], reverse=True)
        weakest = sorted(
            (series.recent, name)
            for name, series in self._named.items()
            if name not in self._pinned
        )
        for (recent, loser), (winner, sent) in zip(weakest, strongest, strict=False):
            if winner == OTHER_TENANT or sent <= 2 * recent:
                break
            self._drop(loser)
            self._named[winner] = TenantSeries(self._family, winner)
        for series in self._named.values():
            series.recent = 0
        self._candidates.clear()
        self._unnamed = 0

    def _drop(self, tenant: str) -> None:
        del self._named[tenant]
        for outcome in ("accepted", "limited", "rejected"):
            self._family.forget(tenant, outcome)
