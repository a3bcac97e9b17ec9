"""Whether the stack answers: small HTTP questions with short deadlines, standard library only."""

from __future__ import annotations

import http.client
import json
from pathlib import Path

from deploy.local.ports import HOST

ASK_S = 1.5


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Return status and body of one GET; status 0 when nobody answers in time."""
    connection = http.client.HTTPConnection(HOST, port, timeout=ASK_S)
    try:
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def is_ready(web_port: int) -> bool:
    """Return whether the web process says that it can serve policies."""
    return get(web_port, "/readyz")[0] == 200


def list_services_with_traffic(web_port: int, operator_token_file: Path) -> list[str]:
    """Return the services that the Fleet page shows with traffic, by name."""
    try:
        token = operator_token_file.read_text().strip()
    except OSError:
        return []
    status, body = get(
        web_port, "/api/v1/signals?environment=prod", {"Authorization": f"Bearer {token}"}
    )
    if status != 200:
        return []
    return services_with_traffic(json.loads(body))


def services_with_traffic(document: object) -> list[str]:
    """Return the names in a signals document whose rate is above zero."""
    services = document.get("services") if isinstance(document, dict) else None
    if not isinstance(services, dict):
        return []
    return sorted(
        name
        for name, signals in services.items()
        if isinstance(signals, dict) and (signals.get("rate_per_s") or 0) > 0
    )
