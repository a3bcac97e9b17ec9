"""Several processes that keep their policies in one directory: no writer undoes another."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.sdk.following import NOON, publication
from tests.sdk.forking import run_forking
from tests.sdk.patience import be_patient
from tests.waiting import HUNG_S, wait_until
from tidegate.store import PolicyStore, StoredPublication


def copy_of(sequence: int) -> StoredPublication:
    body = json.dumps(publication(sequence)).encode()
    return StoredPublication(f"{sequence}-0-aa", body, 0.0, NOON)


def stored_tag(directory: Path) -> str:
    stored = PolicyStore(directory, "prod", "checkout").load()
    assert stored is not None
    return stored.etag


def test_a_writer_that_is_late_does_not_put_a_lower_sequence_over_a_higher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_patient(monkeypatch.setattr)
    replace, flock = os.replace, fcntl.flock
    other = threading.Thread(
        target=PolicyStore(tmp_path, "prod", "checkout").save, args=(copy_of(8),)
    )
    is_turned_away = threading.Event()

    def lock_or_say(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError:
            is_turned_away.set()
            raise

    def replace_late(source: str, target: str) -> None:
        """The first writer has compared, and stops here while another one comes."""
        if threading.current_thread() is not other:
            other.start()
            wait_until(lambda: is_turned_away.is_set() or not other.is_alive())
        replace(source, target)

    monkeypatch.setattr("tidegate.directory_lock.fcntl.flock", lock_or_say)
    monkeypatch.setattr("tidegate.store.os.replace", replace_late)
    PolicyStore(tmp_path, "prod", "checkout").save(copy_of(7))
    other.join(HUNG_S)

    assert stored_tag(tmp_path) == "8-0-aa"
    assert os.listdir(tmp_path) == ["prod.checkout.json"]


HOLDER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_another_process_never_lets_go_is_a_disk_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.directory_lock.PATIENCE_S", 0.05)
    store = PolicyStore(tmp_path, "prod", "checkout")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as holder:  # fmt: skip
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(OSError, match=r"another process has kept .* for 0\.05 s"):
            store.save(copy_of(7))
        assert os.listdir(tmp_path) == []
        holder.communicate(timeout=HUNG_S)

    store.save(copy_of(7))
    assert stored_tag(tmp_path) == "7-0-aa"


@pytest.mark.parametrize("number", [errno.EBADF, errno.ENOLCK], ids=errno.errorcode.get)
def test_where_the_file_system_knows_no_locks_it_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        if operation != fcntl.LOCK_UN:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tidegate.directory_lock.fcntl.flock", refuse)
    PolicyStore(tmp_path, "prod", "checkout").save(copy_of(7))

    assert stored_tag(tmp_path) == "7-0-aa"


ORPHANED = """
import os, signal, sys, threading
from pathlib import Path
from tests.sdk.patience import be_patient
from tidegate.directory_lock import DirectoryLock

be_patient()
lock = DirectoryLock(Path(sys.argv[1]))
inside = threading.Event()

def hold():
    with lock:
        inside.set()
        threading.Event().wait()

reading, writing = os.pipe()
if os.fork() == 0:
    threading.Thread(target=hold, daemon=True).start()
    inside.wait()
    child = os.fork()
    if child == 0:
        signal.pause()
    os.write(writing, str(child).encode())
    os._exit(0)  # as if it was killed: it unlocks nothing
orphan = int(os.read(reading, 20))
os.wait()
try:
    with lock:
        print("free")
finally:
    os.kill(orphan, signal.SIGKILL)
"""


def test_a_child_does_not_hold_what_its_parent_held_when_it_died(tmp_path: Path) -> None:
    assert run_forking(ORPHANED, str(tmp_path)) == "free\n"
