"""How much longer an override shall last."""

from __future__ import annotations

from datetime import timedelta

from django.http import QueryDict

from controlplane.kernel.errors import InvalidInput

DEFAULT_EXTENSION_S = 3600


def read_extension(data: QueryDict) -> timedelta:
    """The time to add; one hour when the form does not say.

    Raises:
        InvalidInput: what it says is not a whole number of seconds.
    """
    text = str(data.get("by_s", DEFAULT_EXTENSION_S)).strip()
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise InvalidInput("by_s must be a whole number of seconds, such as 3600", field="by_s")
    return timedelta(seconds=int(text))
