"""Client-side round robin: a dependency's name becomes the address of its next instance."""

from __future__ import annotations

from collections.abc import Sequence

import httpx

LIMITS = httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=30.0)


class RoundRobin:
    """Hands out addresses in turn, for ever."""

    def __init__(self, addresses: Sequence[str]) -> None:
        if not addresses:
            raise ValueError("a dependency needs at least one instance address")
        self._addresses = tuple(addresses)
        self._next = 0

    def take(self) -> str:
        """Return the next address."""
        address = self._addresses[self._next]
        self._next = (self._next + 1) % len(self._addresses)
        return address


class RoundRobinTransport(httpx.AsyncBaseTransport):
    """Sends each attempt to the next instance, so that a retry meets another one."""

    def __init__(
        self, addresses: Sequence[str], wrapped: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._turn = RoundRobin(addresses)
        self._wrapped = wrapped or httpx.AsyncHTTPTransport(limits=LIMITS)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request to the next instance."""
        host, _, port = self._turn.take().rpartition(":")
        request.url = request.url.copy_with(host=host, port=int(port))
        return await self._wrapped.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connections to every instance."""
        await self._wrapped.aclose()
