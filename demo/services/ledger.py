"""ledger: the book of record."""

from __future__ import annotations

from demo.web import Answer, Asked, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of ledger."""

    async def write(asked: Asked) -> Answer:
        await work.effort(12)
        return Answer(201, {"written": True})

    return [Route("POST", "/entries", write)]
