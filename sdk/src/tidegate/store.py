"""The last policy that worked, on disk, so that a restart needs no control plane."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.directory_lock import DirectoryLock

NOTE_EVERY_S = 60.0

_FORMAT = 2  # 1 kept the parsed document, which no signature could be checked against


@dataclass(frozen=True, slots=True)
class StoredPublication:
    """A publication as it came, byte for byte, and what vouches for it.

    `skew_s` is how far the server's clock was ahead; `saved_at_unix_s` is when it was confirmed
    last, or about a minute before; `keys` are the signing keys that were
    believed besides the pinned ones, with their endorsements.
    """

    etag: str
    body: bytes
    skew_s: float
    saved_at_unix_s: float
    signature: str | None = None
    keys: tuple[Mapping[str, object], ...] = ()
    instance: str = ""


class PolicyStore:
    """One file per environment, service and `part` under `directory`, readable by its owner only.

    Instances of one service on one machine may share it: a file is replaced whole, by one of
    them at a time, and a lower sequence never replaces a higher one. What is for a part of the
    instances has a file of its own, such as `prod.checkout.canary.json`.
    """

    def __init__(self, directory: Path, environment: str, service: str, part: str = "") -> None:
        self._directory = directory
        names = [environment, service, *([part] if part else [])]
        self.path = directory / f"{'.'.join(map(_file_name, names))}.json"

    def load(self) -> StoredPublication | None:
        """What was stored last; None when nothing was, or when it cannot be read."""
        try:
            stored = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(stored, dict):
            return None
        try:
            return _read(stored)
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def save(
        self,
        publication: StoredPublication,
        *,
        is_no_good: Callable[[StoredPublication], bool] = lambda present: False,
    ) -> None:
        """Replace the file, or leave it as it was: never half of it.

        Args:
            is_no_good: says of what is there whether to replace it, whatever its sequence.

        Raises:
            OSError: the disk is full, read-only, not ours, or kept by another process.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with DirectoryLock(self._directory):
            present = self.load()
            is_above = present is not None and _sequence(present) > _sequence(publication)
            if present is None or not is_above or is_no_good(present):
                self._replace(publication)

    def note_confirmation(
        self, publication: StoredPublication, *, is_ours: Callable[[StoredPublication], bool]
    ) -> None:
        """Let the file say when this publication was confirmed; nothing when it holds another.

        Nothing either when it says so of less than `NOTE_EVERY_S` ago, or is not there any more.

        Raises:
            OSError: as `save`.
        """

        def is_outdated() -> bool:
            present = self.load()
            if present is None or present.body != publication.body or not is_ours(present):
                return False
            passed_s = publication.saved_at_unix_s - present.saved_at_unix_s
            return abs(passed_s) >= NOTE_EVERY_S  # a clock that was far ahead may be right now

        if is_outdated():
            with DirectoryLock(self._directory):
                if is_outdated():
                    self._replace(publication)

    def _replace(self, publication: StoredPublication) -> None:
        content = {
            "format": _FORMAT,
            "etag": publication.etag,
            "body": publication.body.decode(),
            "signature": publication.signature,
            "keys": list(publication.keys),
            "instance": publication.instance,
            "skew_s": publication.skew_s,
            "saved_at_unix_s": publication.saved_at_unix_s,
        }
        # mkstemp makes the file 0600, so the policy is never readable by others, not even briefly.
        descriptor, temporary = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(content, separators=(",", ":")).encode())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
        self._sync_directory()

    def _sync_directory(self) -> None:
        # Not every file system lets a directory be synced; the rename itself has happened.
        with contextlib.suppress(OSError):
            descriptor = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _read(stored: Mapping[str, object]) -> StoredPublication | None:
    """The record in a file of this format or the one before; None when it is neither."""
    body: object
    signature: object = None
    keys: object = []
    if stored.get("format") == 1:
        body = json.dumps(stored["document"])
    elif stored.get("format") == _FORMAT:
        body, signature, keys = stored["body"], stored["signature"], stored["keys"]
    else:
        return None
    etag = stored["etag"]
    if not isinstance(etag, str) or not isinstance(body, str) or not isinstance(keys, list):
        return None
    return StoredPublication(
        etag,
        body.encode(),
        _number(stored["skew_s"]),
        _number(stored["saved_at_unix_s"]),
        signature if isinstance(signature, str) else None,
        tuple(key for key in keys if isinstance(key, Mapping)),
        str(stored.get("instance", "")),
    )


def _number(value: object) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"expected a number, not {value!r}")
    return float(value)


def _sequence(publication: StoredPublication) -> int:
    try:
        document = json.loads(publication.body)
    except (ValueError, RecursionError):
        return -1
    sequence = document.get("sequence") if isinstance(document, dict) else None
    return sequence if isinstance(sequence, int) else -1


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "_"
