"""The last snapshots on disk, so that delivery starts when the database does not answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from controlplane.delivery.domain.compile import rfc3339
from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement
from controlplane.delivery.domain.snapshot import STABLE, PublishedPolicy
from controlplane.delivery.hotpath.auth import TokenRecord
from controlplane.delivery.services.loading import scheduled_policy

FORMAT = "tidegate/snapshots/1"


@dataclass(frozen=True, slots=True)
class SavedSnapshots:
    """What the file holds, and when the database last confirmed it."""

    confirmed_at_unix: float
    publications: tuple[PublishedPolicy, ...]
    tokens: tuple[TokenRecord, ...]
    keys: tuple[AnnouncedKey, ...] = ()


def write_snapshot_file(
    path: Path,
    *,
    publications: Iterable[PublishedPolicy],
    tokens: Iterable[TokenRecord],
    confirmed_at_unix: float,
    keys: Iterable[AnnouncedKey] = (),
) -> None:
    """Replace the file in one step; only this user may read it, for it holds token hashes.

    The private parts of signing keys are in it as they are in the database: sealed.

    Raises:
        OSError: the folder cannot be written; the old file, if any, is as it was.
    """
    document = {
        "format": FORMAT,
        "confirmed_at_unix": confirmed_at_unix,
        "publications": [_publication_document(published) for published in publications],
        "tokens": [
            {
                "token_hash": token.token_hash,
                "environment": token.environment,
                "service": token.service,
                "expires_at_unix": token.expires_at_unix,
            }
            for token in tokens
        ],
        "keys": [asdict(key) for key in keys],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp makes the file for this user alone (0600), before anything is in it.
    descriptor, temporary = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(document))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_snapshot_file(path: Path) -> SavedSnapshots | None:
    """Return what the file holds; None when there is no file.

    Raises:
        ValueError: the file is not one of ours, or damaged.
    """
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"{path} has format {document['format']!r}; expected {FORMAT!r}")
        return SavedSnapshots(
            confirmed_at_unix=float(document["confirmed_at_unix"]),
            publications=tuple(
                PublishedPolicy(
                    environment=entry["environment"],
                    service=entry["service"],
                    version=entry["version"],
                    sequence=entry["sequence"],
                    etag=entry["etag"],
                    issued_at=datetime.fromisoformat(entry["issued_at"]),
                    policy=entry["policy"],
                    scheduled=tuple(scheduled_policy(later) for later in entry["scheduled"]),
                    # A file from before there were canaries has none.
                    cohort=entry.get("cohort", STABLE),
                    ratio=float(entry.get("ratio", 0.0)),
                    salt=entry.get("salt", ""),
                )
                for entry in document["publications"]
            ),
            tokens=tuple(TokenRecord(**token) for token in document["tokens"]),
            keys=tuple(_announced_key(key) for key in document.get("keys", ())),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error


def _announced_key(document: dict[str, Any]) -> AnnouncedKey:
    endorsements = tuple(Endorsement(**entry) for entry in document["endorsements"])
    return AnnouncedKey(**{**document, "endorsements": endorsements})


def _publication_document(published: PublishedPolicy) -> dict[str, object]:
    return {
        "environment": published.environment,
        "service": published.service,
        "version": published.version,
        "sequence": published.sequence,
        "etag": published.etag,
        "issued_at": rfc3339(published.issued_at),
        "policy": published.policy,
        "cohort": published.cohort,
        "ratio": published.ratio,
        "salt": published.salt,
        "scheduled": [
            {
                "at": rfc3339(later.at),
                "reason": later.reason,
                "etag": later.etag,
                "policy": later.policy,
            }
            for later in published.scheduled
        ],
    }
