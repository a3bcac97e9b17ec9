"""catalog: what there is to buy."""

from __future__ import annotations

from demo.web import Answer, Asked, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of catalog."""

    async def show(asked: Asked) -> Answer:
        await work.effort(6)
        return Answer(200, {"id": asked.params["id"], "name": "A thing"})

    return [Route("GET", "/products/{id}", show)]
