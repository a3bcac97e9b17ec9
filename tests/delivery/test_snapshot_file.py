"""The snapshot file: what it holds survives however the process ended, damage and full disks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement
from controlplane.delivery.domain.snapshot import CANARY, PublishedPolicy
from controlplane.delivery.services import remembering
from controlplane.delivery.services import snapshot_log as log_module
from controlplane.delivery.services.instruments import SNAPSHOTS_LATE
from controlplane.delivery.services.remembering import SnapshotMemory
from controlplane.delivery.services.snapshot_file import News, format_record, read_snapshot_file
from controlplane.delivery.services.snapshot_log import SharedStateDirectory, SnapshotLog
from tests.delivery.builders import CHECKOUT_TOKEN, NOW, Clock, published, token_record
from tests.waiting import HUNG_S, not_hung

AT = NOW.timestamp()
TOKENS = (token_record(CHECKOUT_TOKEN, "checkout"),)
KEYS = (AnnouncedKey("kid-2", "x", AT, "sealed", (Endorsement("kid-1", "e30..sig"),)),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "snapshots.log"


@pytest.fixture
def log(path: Path) -> Iterator[SnapshotLog]:
    log = SnapshotLog(path, Clock())
    yield log
    log.close()


def sequences(path: Path) -> list[int]:
    saved = read_snapshot_file(path)
    assert saved is not None
    return [publication.sequence for publication in saved.publications]


def add(log: SnapshotLog, *publications: PublishedPolicy) -> None:
    log.add(News(publications), confirmed_at_unix=AT)


def test_what_was_added_is_read_back_as_it_was(path: Path, log: SnapshotLog) -> None:
    whole = published(7, scheduled=[(60.0, {"inbound": {"deadline_ms": 1}})])
    part = PublishedPolicy("prod", "checkout", 4, 9, "9-0-a", NOW, {}, (), CANARY, 0.25, "9-0-a")

    log.add(News((whole,), TOKENS, KEYS), confirmed_at_unix=AT)
    log.add(News((part,)), confirmed_at_unix=AT + 1)

    saved = read_snapshot_file(path)
    assert saved is not None
    assert (saved.publications, saved.tokens, saved.keys) == ((whole, part), TOKENS, KEYS)
    assert (saved.confirmed_at_unix, saved.damaged_at) == (AT + 1, None)


def test_only_the_newest_of_each_service_is_read(path: Path, log: SnapshotLog) -> None:
    add(log, published(7), published(8, service="payments"))
    add(log, published(9))

    assert sequences(path) == [8, 9]


def test_a_record_is_there_as_soon_as_it_was_added_even_for_a_process_that_is_killed(
    path: Path,
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from controlplane.delivery.services.snapshot_log import SnapshotLog\n"
        "from controlplane.delivery.services.snapshot_file import News\n"
        "from tests.delivery.builders import published\n"
        "log = SnapshotLog(Path(sys.argv[1]))\n"
        "for sequence in (7, 8):\n"
        "    log.add(News((published(sequence),)), confirmed_at_unix=0.0)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "controlplane.project.settings.test"}
    code = f"import django; django.setup()\n{code}"

    ended = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, check=False, timeout=HUNG_S
    )

    assert ended.returncode == -9
    assert sequences(path) == [8]


@pytest.mark.parametrize("lost_bytes", [1, 40])
def test_a_file_that_ends_in_the_middle_of_a_record_is_good_up_to_there(
    path: Path, log: SnapshotLog, lost_bytes: int
) -> None:
    add(log, published(7))
    end = path.stat().st_size
    add(log, published(8, service="payments"))
    second = path.read_bytes()[end:].index(b"\n") + end + 1

    os.truncate(path, second - lost_bytes)

    saved = read_snapshot_file(path)
    assert saved is not None
    assert ([each.sequence for each in saved.publications], saved.damaged_at) == ([7], end)


def test_nothing_that_follows_damage_is_believed(path: Path, log: SnapshotLog) -> None:
    add(log, published(7))
    end = path.stat().st_size
    add(log, published(8, service="payments"))
    add(log, published(9, service="ledger"))
    content = bytearray(path.read_bytes())
    content[end + 60] ^= 1

    path.write_bytes(content)

    assert sequences(path) == [7]


def test_a_damaged_file_is_said_kept_aside_and_used_up_to_the_damage(path: Path) -> None:
    log = SnapshotLog(path)
    add(log, published(7))
    log.close()
    with path.open("ab") as file:
        file.write(b"00000000 {}\n")
    damaged = path.read_bytes()

    for _ in range(2):  # nothing is written while the database is away, and the process may die
        memory = SnapshotMemory(path)
        with capture_logs() as lines:
            saved = memory.recall()
        memory._log.close()

        assert saved is not None
        assert [each.sequence for each in saved.publications] == [7]
        assert [line["event"] for line in lines] == ["snapshots.damaged"]
    add(log, published(8))
    assert path.with_suffix(".damaged").read_bytes() == damaged
    assert sequences(path) == [8]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no snapshot file"),
        (b"[]", "no snapshot file"),
        (b'{"format": "tidegate/snapshots/2"}\n', "no snapshot file"),
        (b"\x00" * 4096, "no snapshot file"),
        (
            format_record().replace(b"/2", b"/3").replace(format_record()[:8], b"b3cda3f3"),
            "no snapshot file",
        ),
    ],
    ids=["empty", "foreign", "no checksum", "zeros", "wrong checksum"],
)
def test_a_file_that_is_none_is_said_kept_aside_and_not_used(
    path: Path, content: bytes, problem: str
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    with capture_logs() as lines:
        saved = SnapshotMemory(path).recall()

    assert saved is None
    assert [line["event"] for line in lines] == ["snapshots.unreadable"]
    assert problem in lines[0]["error"]
    assert path.with_suffix(".damaged").read_bytes() == content


def test_a_file_of_another_version_is_said_and_not_used(
    path: Path, log: SnapshotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(log, published(7))
    monkeypatch.setattr(
        "controlplane.delivery.services.snapshot_file.FORMAT", "tidegate/snapshots/3"
    )

    with pytest.raises(ValueError, match=r"has format 'tidegate/snapshots/2'; expected '.*3'"):
        read_snapshot_file(path)


def test_the_file_is_written_anew_when_most_of_it_is_past(
    path: Path, log: SnapshotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "REWRITE_FROM_BYTES", 20_000)
    add(log, *(published(number, service=f"service-{number}") for number in range(1, 11)))
    base = path.stat().st_size

    sizes = []
    for sequence in range(11, 211):
        add(log, published(sequence, service=f"service-{sequence % 10 + 1}"))
        sizes.append(path.stat().st_size)

    assert max(sizes) < base + 21_000
    assert len(sequences(path)) == 10
    assert max(sequences(path)) == 210


def test_a_record_that_only_half_fits_on_the_disk_costs_no_later_one(
    path: Path, log: SnapshotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    log._clock = clock
    add(log, published(7))
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
        with pytest.raises(OSError, match="is the disk full"):
            add(log, published(8))

    add(log, published(9, service="payments"))

    assert sequences(path) == [8, 9]


def test_a_disk_that_stays_full_is_tried_now_and_then(
    path: Path, log: SnapshotLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    log._clock = clock
    rewrites: list[float] = []

    def fail() -> None:
        rewrites.append(clock())
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(log, "_rewrite", fail)
        for sequence in range(7, 27):
            with pytest.raises(OSError, match="No space"):
                add(log, published(sequence))
            clock.pass_s(1)
    clock.pass_s(5)
    add(log)

    assert len(rewrites) == 4  # in 20 s
    assert sequences(path) == [26]


def test_two_processes_do_not_write_one_file(path: Path, log: SnapshotLog) -> None:
    add(log, published(7))
    second = SnapshotLog(path)

    with pytest.raises(SharedStateDirectory, match="its own TIDEGATE_STATE_DIR"):
        add(second, published(8))
    log.close()
    third = SnapshotLog(path)
    add(third, published(9))
    third.close()

    assert sequences(path) == [9]


def test_a_file_that_another_process_is_writing_is_read_and_left_where_it_is(
    path: Path, log: SnapshotLog
) -> None:
    add(log, published(7))
    add(log, published(8, service="payments"))
    os.truncate(path, path.stat().st_size - 10)  # as it looks while a record is being written

    with capture_logs() as lines:
        saved = SnapshotMemory(path).recall()

    assert saved is not None
    assert [each.sequence for each in saved.publications] == [7, 8]
    assert "another process keeps" in lines[0]["kept"]
    assert path.exists()


def test_what_a_killed_process_left_unfinished_is_removed(path: Path, log: SnapshotLog) -> None:
    path.parent.mkdir()
    (path.parent / "snapshots.log.abc.unfinished").write_bytes(b"half")

    add(log, published(7))

    assert sorted(os.listdir(path.parent)) == ["snapshots.lock", "snapshots.log"]


async def test_a_directory_that_cannot_be_written_is_said_once_and_costs_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    memory = SnapshotMemory(tmp_path / "state" / "snapshots.log")

    with capture_logs() as lines:
        for sequence in range(7, 10):
            await memory.add(News((published(sequence),)), confirmed_at_unix=AT)
        (tmp_path / "state").unlink()
        memory._log._failed_at_s -= 60
        await memory.add(News(), confirmed_at_unix=AT)
        await memory.close()

    assert [line["event"] for line in lines] == ["snapshots.unwritten", "snapshots.written"]
    assert sequences(tmp_path / "state" / "snapshots.log") == [9]


async def test_a_disk_that_hangs_holds_no_publication_up_and_gets_them_all_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, is_free = SnapshotMemory(path), threading.Event()
    append = SnapshotLog._append
    await memory.add(News((published(7),)), confirmed_at_unix=AT)
    late = SNAPSHOTS_LATE._value.get()

    def stuck(log: SnapshotLog, records: bytes) -> None:
        assert is_free.wait(HUNG_S)
        append(log, records)

    monkeypatch.setattr(SnapshotLog, "_append", stuck)
    monkeypatch.setattr(remembering, "WAIT_AT_MOST_S", 0.01)
    try:
        async with not_hung():
            for sequence in range(8, 12):
                await memory.add(
                    News((published(sequence), published(sequence + 10, service="payments"))),
                    confirmed_at_unix=AT,
                )
        before = sequences(path)
    finally:
        is_free.set()
        await memory.close()

    assert (before, sequences(path)) == ([7], [11, 21])
    assert SNAPSHOTS_LATE._value.get() - late == 4
