from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.waiting import HUNG_S
from tidegate import Metrics

README = Path(__file__).parents[2] / "sdk" / "README.md"


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The names that the README's program defines; nobody listens where it would call."""
    monkeypatch.setenv("TIDEGATE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TIDEGATE_STATE", str(tmp_path))
    (program,) = re.findall(r"```python\n(import json\n.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "quickstart.py", "exec"), names)
    return names


async def test_the_quick_start_of_the_readme_runs_without_any_server(
    quick_start: dict[str, Any],
) -> None:
    quick_start["payments"]._transport._wrapped = httpx.MockTransport(_refuse)
    service = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=quick_start["application"]), base_url="http://checkout"
    )

    patient = {"X-Request-ID": "req-1", "X-Request-Deadline-Ms": f"{HUNG_S * 1000:.0f}"}
    answer = await service.post("/orders", headers=patient)
    metrics = await service.get("/metrics")

    assert answer.status_code == 502
    assert answer.headers["x-request-id"] == "req-1"
    assert (
        'tidegate_client_requests_total{dependency="payments",outcome="connect_error"} 1.0'
        in metrics.text
    )
    assert 'http_route="/orders"' in metrics.text


def _refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_the_readme_names_every_metric() -> None:
    text = README.read_text()
    missing = [family.name for family in Metrics().families() if family.name not in text]

    assert missing == []
