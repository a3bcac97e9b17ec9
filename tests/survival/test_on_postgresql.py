"""Everything below the pages that uses a database, on PostgreSQL as well."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from django.db.utils import ConnectionHandler
from pytest_django import DjangoDbBlocker

from controlplane.project.databases import database_settings
from tests.scenarios.stack import find_free_port
from tests.survival.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "access", "registry", "policies", "delivery", "resilience", "notifications", "slo", "telemetry",
)  # fmt: skip

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres(host="127.0.0.1", port=find_free_port(), durable=False)
    yield server
    server.close()


def test_what_uses_a_database_passes_on_postgresql(postgres: Postgres, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TIDEGATE_DATABASE_URL": postgres.url,
        "TIDEGATE_STATE_DIR": str(tmp_path),
    }

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.survival.database_only",
         "-p", "no:cacheprovider", "-n", "auto", "--maxprocesses", "4",
         "-m", "not scenario and not browser",
         *(f"tests/{part}" for part in PARTS)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip

    assert done.returncode == 0, f"{done.stdout[-8000:]}{done.stderr[-2000:]}"


def test_the_server_gets_what_the_url_says_and_our_bounds(
    postgres: Postgres, django_db_blocker: DjangoDbBlocker
) -> None:
    with psycopg.connect(postgres.url) as operator:
        operator.execute('CREATE ROLE "on@call" LOGIN')
    settings = database_settings(
        f"postgresql://on%40call@127.0.0.1:{postgres.port}/tidegate"
        "?application_name=node%201&options=-c%20statement_timeout%3D30000"
    )
    asked = (
        "application_name", "statement_timeout", "idle_in_transaction_session_timeout",
        "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
        "tcp_user_timeout",
    )  # fmt: skip

    with django_db_blocker.unblock():
        database = ConnectionHandler({"default": settings})["default"]
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT current_user, " + ", ".join(f"current_setting('{name}')" for name in asked)
            )
            found = cursor.fetchone()
        database.close()

    assert found == ("on@call", "node 1", "30s", "10s", "2", "1", "3", "5000")
