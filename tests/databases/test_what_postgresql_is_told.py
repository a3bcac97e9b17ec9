"""What a real PostgreSQL hears of our connections: the URL's wishes, and our bounds."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection
from django.db.utils import ConnectionHandler

from controlplane.project.databases import database_settings

pytestmark = [pytest.mark.only_on("postgresql"), pytest.mark.django_db(transaction=True)]

ASKED = (
    "application_name", "statement_timeout", "idle_in_transaction_session_timeout",
    "tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count",
    "tcp_user_timeout",
)  # fmt: skip


def test_the_server_gets_what_the_url_says_and_our_bounds() -> None:
    connection.ensure_connection()
    here = connection.settings_dict
    address = f"127.0.0.1:{here['PORT']}/{here['NAME']}"
    role = f"on@call-{here['NAME']}"
    with psycopg.connect(f"postgresql://{here['USER']}@{address}", autocommit=True) as operator:
        operator.execute(f'CREATE ROLE "{role}" LOGIN')
        try:
            found = _session_settings(address, role)
        finally:
            operator.execute(f'DROP ROLE "{role}"')

    assert found == (role, "node 1", "30s", "10s", "2", "1", "3", "5000")


def _session_settings(address: str, role: str) -> tuple[object, ...]:
    settings = database_settings(
        f"postgresql://{role.replace('@', '%40')}@{address}"
        "?application_name=node%201&options=-c%20statement_timeout%3D30000"
    )
    database = ConnectionHandler({"default": settings})["default"]
    try:
        with database.cursor() as cursor:
            cursor.execute(
                "SELECT current_user, " + ", ".join(f"current_setting('{name}')" for name in ASKED)
            )
            found: tuple[object, ...] = cursor.fetchone()
    finally:
        database.close()
    return found
