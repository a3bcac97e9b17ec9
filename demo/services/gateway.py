"""gateway: the front door."""

from __future__ import annotations

from urllib.parse import quote

from demo.web import Answer, Asked, CallFailed, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of gateway."""

    async def show_home(asked: Asked) -> Answer:
        """The home page does without what it can't get: a cart, recommendations."""
        await work.effort(3)
        page: dict[str, object] = {"page": "home"}
        try:
            page["cart"] = await work.call("checkout", "GET", "/cart")
        except CallFailed as problem:
            page["cart"] = {"unavailable": problem.answer.body["error"]}
        if work.feature_is_on("recommendations"):
            try:
                page["recommended"] = await work.call("search", "GET", "/search?q=recommended")
            except CallFailed:
                page["recommended"] = []
        return Answer(200, page)

    async def place_order(asked: Asked) -> Answer:
        await work.effort(4)
        order = await work.call(
            "checkout", "POST", "/orders", idempotency_key=asked.idempotency_key
        )
        return Answer(201, {"order": order})

    async def find(asked: Asked) -> Answer:
        await work.effort(2)
        words = quote(asked.query.get("q", ""))
        return Answer(200, await work.call("search", "GET", f"/search?q={words}"))

    async def show_product(asked: Asked) -> Answer:
        await work.effort(2)
        return Answer(200, await work.call("catalog", "GET", f"/products/{asked.params['id']}"))

    return [
        Route("GET", "/", show_home),
        Route("POST", "/orders", place_order),
        Route("GET", "/search", find),
        Route("GET", "/products/{id}", show_product),
    ]
