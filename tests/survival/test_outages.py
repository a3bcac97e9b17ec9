"""One thing goes wrong at a time: what each outage looks like, and that it passes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from controlplane.delivery.services.remembering import SnapshotMemory
from controlplane.delivery.services.snapshot_file import News, read_snapshot_file
from tests.delivery.builders import published
from tests.soak.figures import Figures, seconds_until
from tests.survival.cluster import NODES, Cluster
from tests.survival.network import CLIENTS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]

SERVICE = "service-1"


def poll(cluster: Cluster, node: str, **headers: str) -> httpx.Response:
    """Ask one node once, as an instance of the service would."""
    return cluster.network.call(
        CLIENTS,
        lambda: httpx.get(
            f"{cluster.urls[node]}/config/v1/prod/{SERVICE}",
            headers={"Authorization": f"Bearer {cluster.tokens[SERVICE]}", **headers},
            timeout=2.0,
        ),
    )


def sequence(cluster: Cluster, node: str) -> int:
    return int(poll(cluster, node).headers["tidegate-sequence"])


def publish(cluster: Cluster, deadline_ms: int) -> None:
    def post() -> httpx.Response:
        return httpx.post(
            f"{cluster.urls['operator']}/api/v1/services/{SERVICE}/versions",
            params={"environment": "prod"},
            json={"document": {"inbound": {"deadline_ms": deadline_ms}}, "reason": "a test"},
            headers={"Authorization": f"Bearer {cluster.operator_token}"},
            timeout=10.0,
        )

    answer = cluster.network.call(CLIENTS, post)
    assert answer.status_code == 201, answer.text


def has_logged(cluster: Cluster, name: str, event: str, since: int = 0) -> bool:
    return any(f'"event": "{event}"' in line for line in cluster.log_events(name)[since:])


def is_written(cluster: Cluster, node: str, served: int) -> bool:
    """Whether a node's file holds what it serves: it waits for its disk for 50 ms at most."""
    saved = read_snapshot_file(cluster.directory / node / "snapshots.log")
    if saved is None:
        return False
    found = [each.sequence for each in saved.publications if each.service == SERVICE]
    return max(found, default=0) >= served


def wait_until_it_reads(cluster: Cluster, node: str, deadline_ms: int) -> None:
    """Return when a node takes what is published, whatever was away before."""
    publish(cluster, deadline_ms)
    seconds_until(
        lambda: poll(cluster, node).json()["policy"]["inbound"]["deadline_ms"] == deadline_ms,
        f"{node} to read the database",
    )


def test_a_node_that_is_killed_without_a_database_serves_what_it_served(
    cluster: Cluster, figures: Figures
) -> None:
    wait_until_it_reads(cluster, "node-1", 4001)
    served = sequence(cluster, "node-1")
    seconds_until(lambda: is_written(cluster, "node-1", served), "the publication in the file")
    cluster.network.cut("node-1")
    try:
        cluster.kill("node-1")
        cluster.start("node-1")
        cluster.wait_ready("node-1")
        alone = poll(cluster, "node-1")
        unchanged = poll(cluster, "node-1", **{"If-None-Match": alone.headers["etag"]})
        stranger = poll(cluster, "node-1", Authorization="Bearer tgs_unknown")
        publish(cluster, 4002)
        seconds_until(lambda: sequence(cluster, "node-2") > served, "node 2 to have the next")
        ahead = poll(
            cluster, "node-1", **{"If-None-Match": poll(cluster, "node-2").headers["etag"]}
        )
    finally:
        cluster.network.mend("node-1")

    caught_up_s = seconds_until(lambda: sequence(cluster, "node-1") > served, "node 1 to catch up")
    after = poll(cluster, "node-1")
    assert (alone.status_code, int(alone.headers["tidegate-sequence"])) == (200, served)
    assert "110" in alone.headers["warning"]
    assert int(alone.headers["age"]) < 60
    assert alone.headers["tidegate-signature"]
    assert (unchanged.status_code, stranger.status_code) == (304, 401)
    assert ahead.status_code == 304, "a client that holds more was sent less"
    assert "warning" not in after.headers
    figures.check("a mended wire to the next publication", caught_up_s, "s", at_most=5.0)


def test_a_database_that_freezes_stops_neither_polls_nor_the_feed(
    cluster: Cluster, figures: Figures
) -> None:
    wait_until_it_reads(cluster, "node-1", 4000)
    before = sequence(cluster, "node-1")
    mark = len(cluster.log_events("node-1"))
    slowest_s = 0.0
    processes = [cluster.postgres.pid]
    try:
        os.kill(processes[0], signal.SIGSTOP)  # from here on it has no new children, nor buries any
        processes += _children(processes[0])
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        began_s = time.monotonic()
        while not has_logged(cluster, "node-1", "database.lost", mark):
            answer = poll(cluster, "node-1")
            assert answer.status_code == 200
            # Without the thread and the client that are made for it here.
            slowest_s = max(slowest_s, answer.elapsed.total_seconds())
            assert time.monotonic() - began_s < 30, "the feed hangs with the database"
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)

    seconds_until(lambda: has_logged(cluster, "node-1", "database.back", mark), "the feed to go on")
    publish(cluster, 4003)
    seconds_until(lambda: sequence(cluster, "node-1") > before, "the next publication")
    figures.check("slowest poll beside a frozen database", slowest_s, "s", at_most=1.0)


def test_reports_wait_while_the_database_is_away_and_are_written_later(cluster: Cluster) -> None:
    number = report(cluster, "node-2", f"early-{os.getpid()}")
    seconds_until(
        lambda: is_noted(cluster, f"early-{os.getpid()}", number), "node 2 to write reports"
    )
    mark = len(cluster.log_events("node-2"))
    cluster.kill("postgres")
    try:
        number = report(cluster, "node-2", f"patient-{os.getpid()}")
        seconds_until(
            lambda: has_logged(cluster, "node-2", "reports.lost", mark),
            "the report to be refused once",
        )
    finally:
        cluster.start("postgres")

    seconds_until(
        lambda: is_noted(cluster, f"patient-{os.getpid()}", number), "the report to be written"
    )


def report(cluster: Cluster, node: str, name: str) -> str:
    """Say, as an instance, that it enforces what the node serves; return its number."""
    present = poll(cluster, node).headers
    etag = present["etag"]
    poll(cluster, node, **{
        "If-None-Match": etag, "Tidegate-Instance": name, "Tidegate-Applied": etag,
    })  # fmt: skip
    return present["tidegate-sequence"]


def is_noted(cluster: Cluster, name: str, number: str) -> bool:
    """Whether the operator's API knows of an instance and a publication."""
    answer = cluster.network.call(CLIENTS, lambda: httpx.get(
        f"{cluster.urls['operator']}/api/v1/publications/{number}/instances",
        params={"environment": "prod"},
        headers={"Authorization": f"Bearer {cluster.operator_token}"},
        timeout=10.0,
    ))  # fmt: skip
    return answer.status_code == 200 and name in answer.text


def test_a_restored_backup_is_said_and_the_sequence_raised_past_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    backup = cluster.postgres.dump()
    publish(cluster, 4101)
    publish(cluster, 4102)
    served = sequence(cluster, "node-1")
    seconds_until(
        lambda: poll(cluster, "node-1").json()["policy"]["inbound"]["deadline_ms"] == 4102,
        "the last publication",
    )
    served = sequence(cluster, "node-1")
    marks = {node: len(cluster.log_events(node)) for node in NODES}

    cluster.postgres.restore(backup)

    seconds_until(lambda: has_logged(cluster, "node-1", "sequence.behind", marks["node-1"]),
               "node 1 to say that the database went back")  # fmt: skip
    said = next(
        json.loads(line) for line in cluster.log_events("node-1")[marks["node-1"]:]
        if '"sequence.behind"' in line
    )  # fmt: skip
    publish(cluster, 4103)  # accepted, and of no effect: instances hold more
    assert sequence(cluster, "node-1") == served
    above = said["command"].split()[-1]
    cluster.manage("raise_sequence", "--above", above, "--reason", "restored the backup")
    seconds_until(lambda: sequence(cluster, "node-1") > served, "the policy of the database")
    after = poll(cluster, "node-1")
    assert int(above) >= served
    assert after.json()["policy"]["inbound"]["deadline_ms"] == 4103
    seconds_until(lambda: has_logged(cluster, "node-1", "sequence.caught_up", marks["node-1"]),
               "node 1 to say that it is over")  # fmt: skip


def test_a_node_stops_within_its_bound_while_its_database_is_cut_off(
    cluster: Cluster, figures: Figures
) -> None:
    cluster.network.cut("node-2")
    try:
        took_s = cluster.terminate("node-2", within_s=12.0)
    finally:
        cluster.network.mend("node-2")
        cluster.start("node-2")
    cluster.wait_ready("node-2")

    figures.check("stop of a node whose database is cut off", took_s, "s", at_most=11.0)


@pytest.fixture
def small_disk(tmp_path: Path, cluster: Cluster) -> Iterator[Path]:
    """A disk of 256 KiB. (The cluster's fixture has checked that this may be made.)"""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_costs_no_publication_and_is_made_good_later(small_disk: Path) -> None:
    path = small_disk / "snapshots.log"
    memory = SnapshotMemory(path)
    await memory.add(News((published(1),)), confirmed_at_unix=0.0)
    async with asyncio.timeout(20):
        while read_snapshot_file(path) is None:  # noqa: ASYNC110  (a slow disk writes later)
            await asyncio.sleep(0.01)
    filler = small_disk / "filler"
    _fill(filler)
    with capture_logs() as lines:
        for number in range(2, 60):
            await memory.add(
                News((published(number, policy={"filler": "x" * 4096}),)), confirmed_at_unix=0.0
            )
        full = read_snapshot_file(path)
        assert memory._task is not None
        await memory._task  # or what is still on its way would fail after the next line
        filler.unlink()
        memory._log._failed_at_s -= 60  # as if it had passed
        await memory.add(News((published(60),)), confirmed_at_unix=0.0)
        await memory.close()

    saved = read_snapshot_file(path)
    assert full is not None
    assert full.publications[-1].sequence < 59
    assert saved is not None
    assert [each.sequence for each in saved.publications] == [60]
    said = [line for line in lines if line["event"].startswith("snapshots.")]
    assert [line["event"] for line in said] == ["snapshots.unwritten", "snapshots.written"]
    assert "No space left" in said[0]["error"] or "disk full" in said[0]["error"]


def _fill(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _children(pid: int) -> list[int]:
    return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
