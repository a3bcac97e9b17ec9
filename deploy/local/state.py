"""The state directory: secrets, the lock of the running stack, and log files.

Standard library only: `bootstrap` uses it before anything is installed.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.problems import SetupProblem

FOLDERS = ("logs", "targets", "tokens", "held")
LOG_GENERATIONS = 3
LOG_BYTES_MAX = 20 * 1024 * 1024


def open_state_dir(state_dir: Path) -> Path:
    """Return `state_dir`, made with its folders if needed; only this user may read it."""
    for folder in (
        state_dir,
        *(state_dir / name for name in ("logs", "targets", "tokens", "held")),
    ):
        folder.mkdir(parents=True, exist_ok=True)
    state_dir.chmod(0o700)
    return state_dir


def ensure_secret(path: Path, *, length_bytes: int = 32) -> str:
    """Return the secret in `path`, generating it on first run, readable by this user only."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(length_bytes))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Replace `path` in one step, readable by this user only."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)


def find_running(state_dir: Path) -> str | None:
    """Return the address of the stack that runs on this state directory, if one does."""
    path = state_dir / "up.lock"
    if not path.exists():
        return None
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _address_in(file.read())
    return None


@contextmanager
def holding_lock(state_dir: Path, url: str) -> Iterator[None]:
    """Hold the state directory for this process until the block ends, or the process dies.

    Raises:
        SetupProblem: a stack already runs on this state directory.
    """
    with (state_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise already_running(_address_in(file.read()), state_dir) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "url": url}))
        file.flush()
        yield


def already_running(url: str, state_dir: Path) -> SetupProblem:
    """Return the sentence for a second `make up` in one checkout."""
    return SetupProblem(
        f"Tidegate already runs from this checkout, at {url} (state in {state_dir}). "
        "Stop it with Ctrl-C where it runs, or use that one."
    )


def rotate_log(path: Path) -> None:
    """Move `path` to `path.1`, `path.1` to `path.2` and so on; the oldest is dropped."""
    for generation in range(LOG_GENERATIONS - 1, 0, -1):
        older = path.with_name(f"{path.name}.{generation}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{generation + 1}"))
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))


def trim_log(path: Path) -> None:
    """Start `path` afresh when it has grown past LOG_BYTES_MAX, keeping one older copy.

    Its writer appends, so truncating under it loses at most the lines of that instant.
    """
    if not path.exists() or path.stat().st_size <= LOG_BYTES_MAX:
        return
    path.with_name(f"{path.name}.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)


def _address_in(text: str) -> str:
    try:
        return str(json.loads(text)["url"])
    except (ValueError, KeyError, TypeError):
        return "an address it has not written down yet"
