"""Who may read what: the checks that every address of the delivery plane shares."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.delivery.hotpath.auth import Grant, RateLimit, TokenTable, authenticate, spend
from controlplane.delivery.hotpath.problems import Refusal
from controlplane.delivery.hotpath.store import Slot, SnapshotStore


class Gate:
    """Lets a token in, and to the one service it is for. `clock` is wall time in Unix seconds."""

    def __init__(
        self,
        store: SnapshotStore,
        tokens: TokenTable,
        *,
        clock: Callable[[], float],
        limit: RateLimit = RateLimit(),  # noqa: B008 (frozen)
    ) -> None:
        self.store = store
        self.tokens = tokens
        self.clock = clock
        self.limit = limit

    def enter(self, authorization: bytes | None) -> tuple[bytes, Grant]:
        """Return the digest of the presented token and what it opens; spend one request of it.

        Raises:
            Refusal: 401, no or no valid bearer token; 429, it is used too often.
        """
        return authenticate(self.tokens, authorization, now_unix=self.clock(), limit=self.limit)

    def charge(self, digest: bytes, requests: int) -> None:
        """Spend more requests of a token that has entered, for one that is as much work as several.

        Raises:
            Refusal: 401, it expired meanwhile; 429, it is used too often.
        """
        for _ in range(requests):
            spend(self.tokens, digest, now_unix=self.clock(), limit=self.limit)

    def open(self, grant: Grant, environment: str, service: str) -> Slot:
        """Return what `service` is served now, at the step that the clock says.

        Raises:
            Refusal: 403, the token is for another service; 404, nothing was published there.
        """
        if not self.store.knows(environment):
            raise Refusal(404, "unknown-environment", f"no environment is named {environment}")
        if grant.key != (environment, service):
            raise Refusal(
                403,
                "wrong-scope",
                f"this token is for {grant.key[1]} in {grant.key[0]} only",
                field="Authorization",
            )
        slot = self.store.find_slot(environment, service)
        if slot is None:
            raise Refusal(404, "not-published", f"{environment} has no fleet default yet")
        if self.clock() >= slot.due_unix:
            self.store.advance()
        return slot
