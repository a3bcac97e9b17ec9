"""What is known about the request being handled, for the code that handles it.

The middleware sets it, the outbound transport passes it on: one request ID, one deadline, one
criticality and one tenant along the whole chain of calls.
"""

from contextvars import ContextVar

from tidegate.policy import Criticality

REQUEST_ID_HEADER = "X-Request-ID"
CRITICALITY_HEADER = "X-Criticality"
TENANT_HEADER = "X-Tenant"
DEADLINE_HEADER = "X-Request-Deadline-Ms"


class RequestContext:
    """One request's identity and limits; `deadline_at_s` is on the monotonic clock."""

    __slots__ = ("criticality", "deadline_at_s", "request_id", "tenant")

    def __init__(
        self,
        request_id: str,
        deadline_at_s: float | None = None,
        criticality: Criticality = Criticality.CRITICAL,
        tenant: str = "",
    ) -> None:
        self.request_id = request_id
        self.deadline_at_s = deadline_at_s
        self.criticality = criticality
        self.tenant = tenant

    def remaining_ms(self, now_s: float) -> float | None:
        """Return the time left, never below zero; None when the request has no deadline."""
        if self.deadline_at_s is None:
            return None
        return max(0.0, (self.deadline_at_s - now_s) * 1000.0)


_current: ContextVar[RequestContext | None] = ContextVar("tidegate_request", default=None)


def current_request() -> RequestContext | None:
    """Return the request this code works for; None outside of one."""
    return _current.get()


def outgoing_headers(now_s: float) -> dict[str, str]:
    """Return the headers that carry the current request on; empty outside of one."""
    request = _current.get()
    if request is None:
        return {}
    headers = {REQUEST_ID_HEADER: request.request_id, CRITICALITY_HEADER: request.criticality.value}
    if request.tenant:
        headers[TENANT_HEADER] = request.tenant
    remaining_ms = request.remaining_ms(now_s)
    if remaining_ms is not None:
        headers[DEADLINE_HEADER] = str(int(remaining_ms))
    return headers


def header_text(value: bytes) -> str:
    """Return a header's value as text, of which `header_bytes` makes the same bytes again."""
    return value.decode("latin-1")


def header_bytes(text: str) -> bytes:
    """Return the bytes that a header's value came as.

    What no header can have brought, because an application made it, goes as UTF-8.
    """
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode()


enter_request = _current.set
leave_request = _current.reset
