"""A pytest plugin that keeps the tests that use a database: `-p tests.survival.database_only`.

What a rule decides without one is the same on every database, and is tested once.
"""

from __future__ import annotations

import pytest

FIXTURES = {"db", "transactional_db", "django_db_reset_sequences"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what neither is marked `django_db` nor uses one of the fixtures that open it."""
    kept = [item for item in items if _uses_database(item)]
    left = [item for item in items if not _uses_database(item)]
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def _uses_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or bool(FIXTURES & set(fixtures))
