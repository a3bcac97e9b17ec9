"""inventory: what is in stock."""

from __future__ import annotations

from demo.web import Answer, Asked, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of inventory."""

    async def look_up(asked: Asked) -> Answer:
        await work.effort(9)
        return Answer(200, {"sku": asked.params["sku"], "left": 12})

    return [Route("GET", "/stock/{sku}", look_up)]
