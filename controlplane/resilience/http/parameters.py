"""The header that makes a POST safe to repeat, for the description of the API."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters; a repeat gets the first answer. Kept 24 h.",
)
