"""Everything below the pages that uses a database, on PostgreSQL as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scenarios.stack import find_free_port
from tests.survival.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("access", "registry", "policies", "delivery", "resilience")

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]


def test_what_uses_a_database_passes_on_postgresql(tmp_path: Path) -> None:
    postgres = Postgres(host="127.0.0.1", port=find_free_port(), durable=False)
    environment = {
        **os.environ,
        "TIDEGATE_DATABASE_URL": postgres.url,
        "TIDEGATE_STATE_DIR": str(tmp_path),
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "tests.survival.database_only",
             "-p", "no:cacheprovider", "-m", "not scenario and not browser",
             *(f"tests/{part}" for part in PARTS)],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280,
        )  # fmt: skip
    finally:
        postgres.close()

    assert done.returncode == 0, f"{done.stdout[-8000:]}{done.stderr[-2000:]}"
