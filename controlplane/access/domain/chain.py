"""The hash chain of the audit log: each entry's hash covers its content and the hash before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from controlplane.kernel.jsondoc import content_hash


@dataclass(frozen=True, slots=True)
class EntryContent:
    """Everything an audit entry's hash covers."""

    number: int
    at: datetime
    actor: str
    actor_kind: str
    action: str
    subject: str
    environment: str
    service: str
    reason: str
    request_id: str
    data: Mapping[str, Any]
    previous_hash: str


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What a check of the whole chain found: `problems` is empty when it holds."""

    entries: int
    newest_hash: str
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Say whether every entry is in place and unchanged."""
        return not self.problems


def entry_hash(content: EntryContent) -> str:
    """Return the hash of an entry, as 64 hexadecimal characters."""
    fields = asdict(content)
    fields["at"] = content.at.astimezone(UTC).isoformat(timespec="microseconds")
    return content_hash(fields)
