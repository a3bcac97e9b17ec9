"""POST JSON to a channel, with timeouts and a breaker, so that a dead one costs little."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from controlplane.kernel.clock import monotonic_s
from tidegate.breaker import Breaker
from tidegate.clock import Clock
from tidegate.outbound_policy import BreakerMode, BreakerPolicy, WindowKind, WindowPolicy
from tidegate.retry import retry_after_s

CONNECT_S = 1.0
READ_S = 4.0
MAX_SHOWN = 160
BREAKER = BreakerPolicy(
    mode=BreakerMode.AUTO,
    window=WindowPolicy(kind=WindowKind.TIME, size=60),
    min_calls=3,
    failure_rate=0.5,
    slow_call_ms=READ_S * 1000,
    slow_call_rate=0.9,
    open_s=10.0,
    half_open_calls=1,
)


class NotTold(Exception):
    """A channel was not told. `is_refusal` when it answered and asking again would not help."""

    def __init__(
        self, message: str, *, is_refusal: bool = False, asked_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.is_refusal = is_refusal
        self.asked_s = asked_s


class Channel:
    """One address that is told by POST; thread-safe, and for the life of the process."""

    def __init__(
        self,
        url: str,
        *,
        breaker: BreakerPolicy = BREAKER,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        clock: Clock = monotonic_s,
    ) -> None:
        self.url = url
        # The path of a webhook is often its password, so it stays out of logs and errors.
        self.shown = f"{urlsplit(url).scheme}://{urlsplit(url).hostname}"
        self._clock = clock
        self._breaker = Breaker(breaker, clock)
        self._client = httpx.Client(
            timeout=httpx.Timeout(read_s, connect=connect_s),
            limits=httpx.Limits(max_connections=4, max_keepalive_connections=1),
            follow_redirects=False,
            trust_env=False,  # a proxy of the machine has no business in between
        )

    def post(self, body: Any, headers: Mapping[str, str]) -> None:
        """Send `body` as JSON; returns once the channel has taken it.

        Raises:
            NotTold: it does not answer, refuses, or failed so often that it is left alone now.
        """
        permit = self._breaker.allow()
        if permit is None:
            raise NotTold(
                f"{self.shown} failed repeatedly and is left alone for now",
                asked_s=self._breaker.retry_after_s,
            )
        started_s = self._clock()
        try:
            self._post(body, headers)
        except NotTold as error:
            # One that answers is well, whatever it thinks of what we say.
            self._breaker.record(error.is_refusal, self._clock() - started_s, permit)
            raise
        except BaseException:
            self._breaker.cancel(permit)
            raise
        self._breaker.record(True, self._clock() - started_s, permit)

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def _post(self, body: Any, headers: Mapping[str, str]) -> None:
        try:
            answer = self._client.post(
                self.url,
                content=json.dumps(body, ensure_ascii=False).encode(),
                headers={
                    "Content-Type": "application/json",
                    "User-Agent": "tidegate-notifications",
                    **headers,
                },
            )
        except httpx.TimeoutException:
            raise NotTold(f"{self.shown} did not answer in time") from None
        except httpx.HTTPError as error:
            raise NotTold(f"{self.shown} cannot be reached: {type(error).__name__}") from None
        if answer.is_success:
            return
        text = " ".join(answer.text.split())[:MAX_SHOWN]
        message = f"{self.shown} answered {answer.status_code}" + (f": {text}" if text else "")
        is_refusal = answer.status_code < 500 and answer.status_code not in (408, 425, 429)
        raise NotTold(
            message,
            is_refusal=is_refusal,
            asked_s=retry_after_s(answer.headers.get("retry-after"), time.time()),
        )
