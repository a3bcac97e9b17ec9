"""`--database=postgresql` runs the tests that use a database on a real PostgreSQL, and only those.

What a rule decides without a database is the same on each of them, and is tested once. One server
is started for the run; every worker of pytest-xdist has a database of its own in it.
"""

from __future__ import annotations

import os

import pytest
from django.db import connections

from controlplane.project.databases import VARIABLE, database_settings
from tests.databases.postgres import Postgres
from tests.ports import find_free_port

FIXTURES = {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback"}
PATIENT = "?options=-c%20statement_timeout%3D60000"  # on a busy machine; the product's is 15 s
SERVER = pytest.StashKey[Postgres]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Offer `--database`."""
    parser.addoption(
        "--database",
        choices=("sqlite", "postgresql"),
        default="sqlite",
        help="which database the tests use that use one; with postgresql, only these run",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start the server, before any worker starts and any connection is made."""
    is_worker = hasattr(config, "workerinput")
    if chosen(config) != "postgresql" or is_worker or config.option.collectonly:
        return
    server = Postgres(host="127.0.0.1", port=find_free_port(), durable=False)
    config.stash[SERVER] = server
    url = server.url + PATIENT
    os.environ[VARIABLE] = url  # for workers, whose settings are read after this
    # For a run without workers, whose settings are read already.
    connections.settings["default"].update(database_settings(url))
    connections.settings["default"]["TEST"]["NAME"] = None
    connections.close_all()
    del connections["default"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server that was started for this run."""
    server = config.stash.get(SERVER, None)
    if server is not None:
        server.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on the other database alone, and here what uses none."""
    database = chosen(config)
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (kept if _belongs(item, database) else left).append(item)
    items[:] = kept
    if left:
        config.hook.pytest_deselected(items=left)


def chosen(config: pytest.Config) -> str:
    """Return the database of this run: "sqlite" or "postgresql"."""
    return str(config.getoption("--database"))


def _belongs(item: pytest.Item, database: str) -> bool:
    only_on = item.get_closest_marker("only_on")
    if only_on is not None:
        return bool(only_on.args[0] == database)
    return database == "sqlite" or _uses_database(item)


def _uses_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or bool(FIXTURES & set(fixtures))
