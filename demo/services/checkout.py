"""checkout: a basket becomes an order."""

from __future__ import annotations

from demo.web import Answer, Asked, CallFailed, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of checkout."""

    async def place_order(asked: Asked) -> Answer:
        await work.effort(8)
        try:
            await work.call("inventory", "GET", "/stock/1")
        except CallFailed as problem:
            # Stock that is known to be unknown is sold anyway, and counted later.
            if problem.was_sent:
                raise
        # The key goes along: without one, a charge must not be tried twice.
        charge = await work.call(
            "payments", "POST", "/charge", idempotency_key=asked.idempotency_key
        )
        return Answer(201, {"order": "placed", "charge": charge})

    async def show_cart(asked: Asked) -> Answer:
        await work.effort(5)
        return Answer(200, {"items": 2})

    return [Route("POST", "/orders", place_order), Route("GET", "/cart", show_cart)]
