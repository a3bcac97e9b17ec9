"""`/livez` and `/readyz`, answered from memory.

Liveness says that the event loop turns. Readiness says that policies can be served: it does not
depend on the database, Valkey or Prometheus, because delivery survives without them, and a
restart would only lose the snapshots in memory.
"""

from __future__ import annotations

from controlplane.delivery.hotpath.problems import Answer

PATHS = frozenset({"/livez", "/readyz"})

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_NO_STORE = (b"cache-control", b"no-store")


def health_answer(path: str, *, is_ready: bool) -> Answer:
    """Return the answer to one of PATHS."""
    if path == "/livez":
        return _text(200, b"alive\n")
    if is_ready:
        return _text(200, b"ready\n")
    return _text(
        503,
        b"not ready: snapshots are not loaded, or the process is draining\n",
        (b"retry-after", b"1"),
    )


def _text(status: int, body: bytes, *extra: tuple[bytes, bytes]) -> Answer:
    length = (b"content-length", str(len(body)).encode())
    return Answer(status, (_TEXT, length, _NO_STORE, *extra), body)
