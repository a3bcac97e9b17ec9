"""What delivery serves, on disk: a log of everything it took up, in the order it took it up.

One record per line, each with its own checksum, so that a record can be added in microseconds
before it is served, however many services there are. A file that ends in the middle of a record,
or is damaged further on, is good up to there: that is a state which was served once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson

from controlplane.delivery.domain.compile import rfc3339
from controlplane.delivery.domain.keyring import AnnouncedKey, Endorsement
from controlplane.delivery.domain.snapshot import STABLE, PublishedPolicy
from controlplane.delivery.hotpath.auth import TokenRecord
from controlplane.delivery.services.loading import scheduled_policy

FORMAT = "tidegate/snapshots/2"

LaneKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class News:
    """What is about to be served; tokens and keys are None when they are as they were."""

    publications: tuple[PublishedPolicy, ...] = ()
    tokens: tuple[TokenRecord, ...] | None = None
    keys: tuple[AnnouncedKey, ...] | None = None

    def then(self, later: News) -> News:
        """Return both as one; of each thing, the later."""
        publications = {key_of(published): published for published in self.publications}
        publications |= {key_of(published): published for published in later.publications}
        return News(
            publications=tuple(publications.values()),
            tokens=self.tokens if later.tokens is None else later.tokens,
            keys=self.keys if later.keys is None else later.keys,
        )


@dataclass(frozen=True, slots=True)
class SavedSnapshots:
    """What the file holds, and when the database last confirmed it.

    Publications are in the order to serve them in: what everybody gets before the canaries.
    `damaged_at` is the byte from which on the file could not be read; None when all of it could.
    """

    confirmed_at_unix: float
    publications: tuple[PublishedPolicy, ...]
    tokens: tuple[TokenRecord, ...]
    keys: tuple[AnnouncedKey, ...] = ()
    damaged_at: int | None = None


def key_of(published: PublishedPolicy) -> LaneKey:
    """Return what only the newest publication of is served."""
    return (published.environment, published.service, published.cohort)


def format_record() -> bytes:
    """Return the first line of every file."""
    return _line({"format": FORMAT})


def publication_record(published: PublishedPolicy) -> bytes:
    """Return the line that says: this is served from now on."""
    return _line({"published": _publication_document(published)})


def tokens_record(tokens: Iterable[TokenRecord]) -> bytes:
    """Return the line that says: these are all the tokens there are. No token's text is in it."""
    rows = [
        (token.token_hash, token.environment, token.service, token.expires_at_unix)
        for token in tokens
    ]
    return _line({"tokens": rows})


def keys_record(keys: Iterable[AnnouncedKey]) -> bytes:
    """Return the line that says: these are all the signing keys there are.

    Their private parts are in it as they are in the database: sealed.
    """
    return _line({"keys": [asdict(key) for key in keys]})


def confirmed_record(at_unix: float) -> bytes:
    """Return the line that says: at this time the database held nothing newer."""
    return _line({"confirmed_at_unix": at_unix})


def read_snapshot_file(path: Path) -> SavedSnapshots | None:
    """Return what the file holds; None when there is no file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not one of ours, of another format, or damaged from the beginning.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    _check_format(path, content)
    publications: dict[LaneKey, PublishedPolicy] = {}
    tokens: tuple[TokenRecord, ...] = ()
    keys: tuple[AnnouncedKey, ...] = ()
    confirmed_at_unix = 0.0
    end = 0
    for document, end in _whole_records(content):  # noqa: B007 (where the last one ended)
        try:
            if "published" in document:
                published = _published(document["published"])
                known = publications.get(key_of(published))
                if known is None or known.sequence < published.sequence:
                    publications[key_of(published)] = published
            elif "tokens" in document:
                tokens = tuple(TokenRecord(*row) for row in document["tokens"])
            elif "keys" in document:
                keys = tuple(_announced_key(key) for key in document["keys"])
            elif "confirmed_at_unix" in document:
                confirmed_at_unix = float(document["confirmed_at_unix"])
        except (KeyError, TypeError, ValueError) as error:
            # Its checksum is right, so this is no damage: another version wrote it.
            raise ValueError(f"{path} holds a record of another version: {error!r}") from error
    return SavedSnapshots(
        confirmed_at_unix=confirmed_at_unix,
        publications=tuple(
            sorted(publications.values(), key=lambda found: (found.cohort, found.sequence))
        ),
        tokens=tokens,
        keys=keys,
        damaged_at=None if end == len(content) else end,
    )


def _check_format(path: Path, content: bytes) -> None:
    first = next(_whole_records(content), None)
    if first is None:
        raise ValueError(f"{path} is no snapshot file, or damaged from its first line")
    found = first[0].get("format")
    if found != FORMAT:
        raise ValueError(f"{path} has format {found!r}; expected {FORMAT!r}")


def _whole_records(content: bytes) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each record and where it ends, up to the first that is not whole."""
    start = 0
    while (end := content.find(b"\n", start)) >= 0:
        checksum, _, body = content[start:end].partition(b" ")
        if checksum != _checksum(body):
            return
        try:
            document = orjson.loads(body)
        except ValueError:
            return
        if not isinstance(document, dict):
            return
        start = end + 1
        yield document, start


def _line(document: dict[str, object]) -> bytes:
    body = orjson.dumps(document)
    return _checksum(body) + b" " + body + b"\n"


def _checksum(body: bytes) -> bytes:
    return b"%08x" % crc32(body)


def _published(entry: dict[str, Any]) -> PublishedPolicy:
    return PublishedPolicy(
        environment=entry["environment"],
        service=entry["service"],
        version=entry["version"],
        sequence=entry["sequence"],
        etag=entry["etag"],
        issued_at=datetime.fromisoformat(entry["issued_at"]),
        policy=entry["policy"],
        scheduled=tuple(scheduled_policy(later) for later in entry["scheduled"]),
        cohort=entry.get("cohort", STABLE),
        ratio=entry.get("ratio", 0.0),
        salt=entry.get("salt", ""),
    )


def _announced_key(document: dict[str, Any]) -> AnnouncedKey:
    endorsements = tuple(Endorsement(**entry) for entry in document["endorsements"])
    return AnnouncedKey(**{**document, "endorsements": endorsements})


def _publication_document(published: PublishedPolicy) -> dict[str, object]:
    document: dict[str, object] = {
        "environment": published.environment,
        "service": published.service,
        "version": published.version,
        "sequence": published.sequence,
        "etag": published.etag,
        "issued_at": rfc3339(published.issued_at),
        "policy": published.policy,
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
    if published.cohort != STABLE:
        document |= {
            "cohort": published.cohort,
            "ratio": published.ratio,
            "salt": published.salt,
        }
    return document
