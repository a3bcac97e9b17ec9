"""`/livez`, `/readyz` and `/metrics`, answered without passing through any limit."""

from tidegate.asgi import Headers, Send, answer
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import METRICS_HEADERS, Metrics

HEALTH_PATHS = frozenset(("/livez", "/readyz", "/metrics"))

_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


async def answer_health(path: str, metrics: Metrics, lifecycle: Lifecycle, send: Send) -> None:
    """Answer one of HEALTH_PATHS."""
    await answer(send, *health_of(path, metrics, lifecycle))


def health_of(path: str, metrics: Metrics, lifecycle: Lifecycle) -> tuple[int, Headers, bytes]:
    """The status, headers and body for one of HEALTH_PATHS.

    `/livez` is 200 as long as requests are answered at all; `/readyz` is 503 while the instance
    drains or asked for no traffic.
    """
    if path == "/metrics":
        return 200, METRICS_HEADERS, metrics.text()
    if path == "/livez" or lifecycle.is_ready:
        return 200, _HEADERS, b"ok\n"
    return 503, _HEADERS, b"not ready\n"
