"""Cursor pagination of API lists: an opaque cursor, and a limit with a bound."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from controlplane.access.http.queries import check_names
from controlplane.kernel.errors import InvalidInput

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR_CHARACTERS = 1024
MAX_NUMBER = 2**63 - 1
_LIMIT = re.compile("[0-9]{1,9}")
PARAMETERS = [
    OpenApiParameter("limit", int, description=f"At most this many, 1 to {MAX_LIMIT}."),
    OpenApiParameter("cursor", str, description="`next_cursor` of the page before."),
]
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list was asked for: at most `limit`, after the item with key `after`."""

    limit: int
    after: int | str | None

    @property
    def after_number(self) -> int | None:
        """Return the key of a list that is keyed by number.

        Raises:
            InvalidInput: the cursor belongs to another list.
        """
        if self.after is None or isinstance(self.after, int):
            return self.after
        raise InvalidInput("cursor belongs to another list", field="cursor")

    @property
    def one_more(self) -> int:
        """Return how many to read to learn whether there is a next page."""
        return self.limit + 1

    def cut(self, items: Sequence[_Item]) -> tuple[Sequence[_Item], bool]:
        """Return this page of what was read with `one_more`, and whether there is a next one."""
        return items[: self.limit], len(items) > self.limit


def window_of(request: Request, *filters: str) -> Window:
    """Return the part of a list that a request asks for; `filters` are its other parameters.

    Raises:
        BadRequest: it has a parameter that is none of them.
        InvalidInput: a limit out of range, or a cursor that is not one of ours.
    """
    check_names(request, (*filters, *(each.name for each in PARAMETERS)))
    limit_text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (_LIMIT.fullmatch(limit_text) and 1 <= int(limit_text) <= MAX_LIMIT):
        raise InvalidInput(f"limit must be 1 to {MAX_LIMIT}", field="limit")
    cursor = request.query_params.get("cursor")
    return Window(int(limit_text), None if not cursor else _decoded(cursor))


def encode_cursor(key: int | str) -> str:
    """Return the opaque cursor of the last item of a page."""
    return base64.urlsafe_b64encode(json.dumps([key]).encode()).decode().rstrip("=")


def _decoded(cursor: str) -> int | str:
    key: object = None
    if len(cursor) <= MAX_CURSOR_CHARACTERS:
        with contextlib.suppress(binascii.Error, ValueError, TypeError, RecursionError):
            (key,) = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    if isinstance(key, str) and key.isprintable():
        return key
    if isinstance(key, int) and not isinstance(key, bool) and abs(key) <= MAX_NUMBER:
        return key
    raise InvalidInput("cursor must be the next_cursor of a page of this list", field="cursor")
