"""What a refused caller is told: problem+json (RFC 9457), and when to come back."""

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

REASONS = (
    "rate",
    "tenant_rate",
    "concurrency",
    "queue_full",
    "queue_timeout",
    "shed",
    "deadline",
    "draining",
)
SHADOW_REASONS = ("rate", "tenant_rate", "concurrency", "queue_full")

_TITLES = {429: "Too Many Requests", 503: "Service Unavailable", 504: "Gateway Timeout"}

_TOLD: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "rate": (429, "The rate limit of this service or endpoint is reached."),
        "tenant_rate": (429, "The rate limit of this tenant is reached."),
        "concurrency": (503, "As many requests as this instance takes are running."),
        "queue_full": (503, "The queue for a free place is full."),
        "queue_timeout": (503, "No place became free in time."),
        "shed": (503, "Requests of this criticality are being shed."),
        "deadline": (504, "The request's deadline passed before there was an answer."),
        "draining": (503, "This instance is shutting down; another will answer."),
    }
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not served, and how long until another try makes sense."""

    reason: str
    wait_s: float = 1.0

    @property
    def status(self) -> int:
        """The HTTP status: 429 for the caller's doing, 503 for ours, 504 for lateness."""
        return _TOLD[self.reason][0]

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the response headers, `Retry-After` in whole seconds among them."""
        found = [
            (b"content-type", b"application/problem+json"),
            (b"retry-after", str(self._retry_after_s()).encode()),
            (b"cache-control", b"no-store"),
        ]
        if self.reason == "draining":
            found.append((b"connection", b"close"))
        return found

    def body(self, request_id: str) -> bytes:
        """Return the problem document."""
        status, detail = _TOLD[self.reason]
        problem = {
            "type": "about:blank",
            "title": _TITLES[status],
            "status": status,
            "code": self.reason.replace("_", "-"),
            "detail": detail,
            "request_id": request_id,
        }
        return json.dumps(problem).encode()

    def _retry_after_s(self) -> int:
        whole_s = max(1, math.ceil(self.wait_s))
        if self.status == 429:
            return whole_s
        # Callers refused together should not come back together.
        return whole_s + random.randrange(3)  # noqa: S311 -- spreads load, keeps no secret
