"""The last policy that worked, on disk, so that a restart needs no control plane."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class StoredPublication:
    """A publication as it was stored: `skew_s` is how far the server's clock was ahead."""

    etag: str
    document: Mapping[str, object]
    skew_s: float
    saved_at_unix_s: float


class PolicyStore:
    """One file per environment and service under `directory`, readable by its owner only.

    Instances of one service on one machine may share it: a file is replaced whole, and a
    lower sequence never replaces a higher one.
    """

    def __init__(self, directory: Path, environment: str, service: str) -> None:
        self._directory = directory
        self.path = directory / f"{_file_name(environment)}.{_file_name(service)}.json"

    def load(self) -> StoredPublication | None:
        """What was stored last; None when nothing was, or when it cannot be read."""
        try:
            stored = json.loads(self.path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(stored, dict) or stored.get("format") != _FORMAT:
            return None
        etag, document = stored.get("etag"), stored.get("document")
        if not isinstance(etag, str) or not isinstance(document, dict):
            return None
        try:
            return StoredPublication(
                etag, document, float(stored["skew_s"]), float(stored["saved_at_unix_s"])
            )
        except (KeyError, TypeError, ValueError):
            return None

    def save(self, publication: StoredPublication) -> None:
        """Replace the file, or leave it as it was: never half of it.

        Raises:
            OSError: the disk is full, read-only, or not ours.
        """
        present = self.load()
        if present is not None and _sequence(present) > _sequence(publication):
            return
        content = {
            "format": _FORMAT,
            "etag": publication.etag,
            "document": publication.document,
            "skew_s": publication.skew_s,
            "saved_at_unix_s": publication.saved_at_unix_s,
        }
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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


def _sequence(publication: StoredPublication) -> int:
    sequence = publication.document.get("sequence")
    return sequence if isinstance(sequence, int) else -1


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", name) or "_"
