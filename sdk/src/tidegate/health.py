"""`/livez`, `/readyz` and `/metrics`, answered without passing through any limit."""

from tidegate.asgi import Send, answer
from tidegate.lifecycle import Lifecycle
from tidegate.metrics import Metrics, answer_metrics

HEALTH_PATHS = frozenset(("/livez", "/readyz", "/metrics"))

_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


async def answer_health(path: str, metrics: Metrics, lifecycle: Lifecycle, send: Send) -> None:
    """Answer one of HEALTH_PATHS.

    `/livez` is 200 as long as the event loop turns; `/readyz` is 503 while the instance drains
    or asked for no traffic.
    """
    if path == "/metrics":
        await answer_metrics(metrics, send)
    elif path == "/livez" or lifecycle.is_ready:
        await answer(send, 200, _HEADERS, b"ok\n")
    else:
        await answer(send, 503, _HEADERS, b"not ready\n")
