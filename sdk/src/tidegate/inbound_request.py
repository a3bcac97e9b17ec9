"""What a request says of itself in its headers: who, for whom, how important, until when."""

import os
import re

from tidegate.context import DEADLINE_HEADER, REQUEST_ID_HEADER, RequestContext, header_text
from tidegate.deadline import parse_deadline_ms
from tidegate.guard import Endpoint
from tidegate.shedding import parse_criticality

MAX_TENANT_LENGTH = 64
ID_HEADER = REQUEST_ID_HEADER.lower().encode()
DEADLINE = DEADLINE_HEADER.lower().encode()

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def read_request(
    endpoint: Endpoint,
    now_s: float,
    *,
    request_id: bytes | None,
    deadline: bytes | None,
    criticality: bytes | None,
    tenant: bytes,
) -> RequestContext:
    """Return the request as its headers describe it; what they leave out, the endpoint says."""
    return RequestContext(
        _request_id(request_id),
        now_s + _deadline_ms(deadline, endpoint) / 1000.0,
        (parse_criticality(criticality) if criticality else None) or endpoint.criticality,
        header_text(tenant)[:MAX_TENANT_LENGTH],
    )


def _request_id(presented: bytes | None) -> str:
    if presented is not None and _REQUEST_ID.fullmatch(presented):
        return presented.decode("ascii")
    return os.urandom(16).hex()


def _deadline_ms(presented: bytes | None, endpoint: Endpoint) -> float:
    asked_ms = parse_deadline_ms(presented) if presented is not None else None
    return endpoint.deadline_ms if asked_ms is None else asked_ms
