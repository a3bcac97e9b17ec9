"""How much longer an override shall last."""

from __future__ import annotations

from datetime import timedelta

from django.http import QueryDict

DEFAULT_EXTENSION_S = 3600


def read_extension(data: QueryDict) -> timedelta:
    """The time to add; one hour unless the form says otherwise."""
    text = str(data.get("by_s", ""))
    is_whole = text.isascii() and text.isdigit() and len(text) < 7
    return timedelta(seconds=int(text) if is_whole else DEFAULT_EXTENSION_S)
