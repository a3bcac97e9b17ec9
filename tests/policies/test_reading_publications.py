"""What a node reads when it starts costs an index, not the whole history with its policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.policies.models import Publication
from controlplane.policies.selectors.publications import (
    latest_canary_publication,
    latest_publication,
    list_current_publications,
    list_newest_publications,
    list_publications,
)

SERVICES, EACH = 40, 25

# PostgreSQL reads a table as small as a test's from end to end, whatever indexes it has.
pytestmark = pytest.mark.only_on("sqlite")


@pytest.fixture
def history(db: None, now: datetime) -> None:
    """A thousand publications, one in fifty of them to a canary."""
    Publication.objects.bulk_create(
        Publication(
            sequence=sequence,
            environment="prod",
            service_slug=f"service-{sequence % SERVICES}",
            version_number=1,
            etag=f"{sequence}-0-nonce",
            policy={"filler": "x" * 2000},
            cause="version.published",
            actor="test",
            reason="x",
            issued_at=now,
            **({"cohort": "canary", "ratio": 0.1, "salt": "s"} if sequence % 50 == 0 else {}),
        )
        for sequence in range(1, SERVICES * EACH + 1)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def plan_of(read: Callable[[], object]) -> str:
    """Return how the database would run the one statement that `read` makes."""
    with CaptureQueriesContext(
        connection,
    ) as captured:
        read()
    (query,) = captured.captured_queries
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
        rows: Sequence[Sequence[object]] = cursor.fetchall()
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize(
    "read",
    [list_newest_publications, lambda: list_current_publications("prod")],
    ids=["what a node starts with", "what is served now"],
)
def test_the_newest_are_found_in_an_index_alone(history: None, read: Callable[[], object]) -> None:
    plan = plan_of(read)

    assert "COVERING INDEX publications_by_cohort" in plan, plan


@pytest.mark.parametrize(
    ("read", "index"),
    [
        (lambda: latest_publication("prod", "service-1"), "publications_by_cohort"),
        (lambda: latest_canary_publication("prod", "service-0"), "publications_by_cohort"),
        (
            lambda: list_publications("prod", service="service-1", limit=5),
            "publications_by_service",
        ),
    ],
    ids=["the newest of a service", "its newest canary", "a page of its history"],
)
def test_what_is_read_of_one_service_is_sought_in_an_index_in_its_order(
    history: None, read: Callable[[], object], index: str
) -> None:
    plan = plan_of(read)

    assert index in plan, plan
    assert "TEMP B-TREE" not in plan, plan
