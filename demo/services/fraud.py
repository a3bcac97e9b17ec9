"""fraud: how likely a charge is a fraud."""

from __future__ import annotations

from demo.web import Answer, Asked, Route
from demo.work import Work


def routes(work: Work) -> list[Route]:
    """Return the endpoints of fraud."""

    async def score(asked: Asked) -> Answer:
        await work.effort(30)
        return Answer(200, {"score": 0.02})

    return [Route("POST", "/score", score)]
