"""Channel names between processes, in one place. A message is a hint; the database is the truth."""

from __future__ import annotations

from enum import StrEnum


class Channel(StrEnum):
    """Pub/sub channels of Valkey or Redis. Each message is one JSON object."""

    # {"environment", "service", "sequence"}; service is "" for the fleet default
    PUBLISHED = "tidegate:published"
    # {"environment", "service"}: tokens were made or revoked
    TOKENS = "tidegate:tokens"
    # {"environment"}: instances acknowledged something
    REPORTS = "tidegate:reports"
    # {"kid"}: a signing key was made, rotated or withdrawn
    SIGNING_KEYS = "tidegate:signing-keys"
