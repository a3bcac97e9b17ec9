"""payments: a charge is scored, made, and written down."""

from __future__ import annotations

import contextlib

from demo.web import Answer, Asked, CallFailed, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of payments."""

    async def charge(asked: Asked) -> Answer:
        await work.effort(22)
        with contextlib.suppress(CallFailed):
            # A small charge goes through unscored.
            await work.call("fraud", "POST", "/score", idempotency_key=asked.idempotency_key)
        await work.call("ledger", "POST", "/entries", idempotency_key=asked.idempotency_key)
        return Answer(201, {"charged": True})

    return [Route("POST", "/charge", charge)]
