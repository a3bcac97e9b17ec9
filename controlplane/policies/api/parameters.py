"""Headers that several operations take, for the description of the API."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter

from controlplane.resilience.http.parameters import IDEMPOTENCY_KEY as IDEMPOTENCY_KEY

IF_MATCH = OpenApiParameter(
    "If-Match",
    str,
    OpenApiParameter.HEADER,
    description="The ETag you started from; 412 when it is no longer current.",
)
