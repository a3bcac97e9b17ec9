"""An instance that only says that it is still there is written by its row number."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.delivery.models import InstanceReport
from controlplane.delivery.services import reports as report_services
from controlplane.delivery.services.reports import write_reports
from controlplane.registry.models import Instance
from controlplane.registry.services.instances import InstanceKey, prune_silent_instances
from tests.delivery.builders import NOW, Clock, Plane, answer, make_plane

OURS = '"7-0-9f3c"'


def poll(plane: Plane, *instances: str) -> None:
    for instance in instances:
        headers = {
            "Tidegate-Instance": instance, "If-None-Match": OURS, "Tidegate-Applied": OURS,
        }  # fmt: skip
        assert answer(plane, headers=headers).status == 304


def flush(plane: Plane, known: dict[InstanceKey, int]) -> list[str]:
    """Write what waits; return the statements that wrote something."""
    with CaptureQueriesContext(connection) as queries:
        write_reports(plane.reports.take(), known)
    verbs = [query["sql"].split(" ", 1)[0] for query in queries]
    return [verb for verb in verbs if verb in ("INSERT", "UPDATE", "DELETE")]


def last_seen_s() -> dict[str, float]:
    """When each instance was last seen, in seconds from the beginning of the test."""
    return {
        row.instance_id: (row.last_seen_at - NOW).total_seconds() for row in Instance.objects.all()
    }


def test_instances_seen_again_are_one_update(db: None) -> None:
    clock, known = Clock(), dict[InstanceKey, int]()
    plane = make_plane(clock=clock)
    poll(plane, "a", "b", "c")
    flush(plane, known)
    clock.pass_s(10)

    poll(plane, "a", "c")

    assert flush(plane, known) == ["UPDATE"]
    assert last_seen_s() == {"a": 10, "b": 0, "c": 10}


def test_who_says_something_new_is_written_in_full_beside_those_who_do_not(db: None) -> None:
    clock, known = Clock(), dict[InstanceKey, int]()
    plane = make_plane(clock=clock)
    poll(plane, "a", "b")
    flush(plane, known)
    clock.pass_s(10)

    poll(plane, "a", "new")
    headers = {"Tidegate-Instance": "b", "Tidegate-Applied": OURS, "If-None-Match": OURS,
               "Tidegate-Rejected": '"6-0-9f3c"; reason="no"'}  # fmt: skip
    answer(plane, headers=headers)
    flush(plane, known)

    assert last_seen_s() == {"a": 10, "b": 10, "new": 10}
    states = InstanceReport.objects.values_list("instance__instance_id", "state")
    assert dict(states) == {"a": "applied", "b": "rejected", "new": "applied"}


def test_an_instance_that_was_tidied_away_is_made_again(db: None) -> None:
    clock, known = Clock(), dict[InstanceKey, int]()
    plane = make_plane(clock=clock)
    poll(plane, "a", "b")
    flush(plane, known)
    prune_silent_instances(silent_since=NOW + timedelta(seconds=1))
    clock.pass_s(10)

    poll(plane, "a", "b")
    flush(plane, known)

    assert last_seen_s() == {"a": 10, "b": 10}
    assert set(known.values()) == set(Instance.objects.values_list("pk", flat=True))


def test_notes_that_waited_for_the_database_keep_their_own_times(db: None) -> None:
    clock, known = Clock(), dict[InstanceKey, int]()
    plane = make_plane(clock=clock)
    poll(plane, "early", "late")
    flush(plane, known)
    clock.pass_s(10)
    poll(plane, "early")
    clock.pass_s(60)

    poll(plane, "late")
    flush(plane, known)

    assert last_seen_s() == {"early": 10, "late": 70}


def test_only_so_many_row_numbers_are_remembered(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_services, "MAX_KNOWN", 3)
    known = dict[InstanceKey, int]()
    plane = make_plane()
    for names in (("a", "b"), ("c", "d")):
        poll(plane, *names)
        flush(plane, known)

    assert {instance for _, _, instance in known} == {"c", "d"}
