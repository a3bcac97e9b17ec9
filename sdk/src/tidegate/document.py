"""Typed reading of a JSON document: every refusal names the path and what would be right."""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

from tidegate.errors import PolicyRejected

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

DAY_MS = 86_400_000  # the longest duration any field may hold
MANY = 10_000_000  # more than any one process could do of anything in a second

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


class Block:
    """One JSON object of a document, read field by field.

    Unknown fields are left alone: the control plane refuses them at its door, and an older
    client must keep obeying the rest when a newer control plane adds one.
    """

    __slots__ = ("_fields", "path")

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, Mapping):
            raise PolicyRejected(path, f"expected an object, not {_kind(value)}")
        self._fields = value
        self.path = path

    def number(self, name: str, low: float, high: float) -> float:
        """Return a finite number from `low` to `high`."""
        value = self._required(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refusal(name, f"expected a number, not {_kind(value)}")
        if not low <= value <= high:  # NaN is nowhere
            raise self._refusal(name, f"{_shown(value)} is outside {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`; 50.0 counts as 50."""
        value = self.number(name, low, high)
        if not value.is_integer():
            raise self._refusal(name, f"expected a whole number, not {value:g}")
        return int(value)

    def boolean(self, name: str) -> bool:
        """Return true or false; 0, 1 and "true" are refused."""
        value = self._required(name)
        if not isinstance(value, bool):
            raise self._refusal(name, f"expected true or false, not {_kind(value)}")
        return value

    def choice(self, name: str, choices: type[E]) -> E:
        """Return the member of `choices` that the field spells."""
        value = self._required(name)
        try:
            return choices(value)  # type: ignore[arg-type]  # any other type is a ValueError
        except ValueError:
            allowed = ", ".join(choices)
            raise self._refusal(name, f"expected one of {allowed}") from None

    def texts(self, name: str, pattern: re.Pattern[str], form: str) -> frozenset[str]:
        """Return a list of strings as a set; each must match `pattern`, described by `form`."""
        value = self._required(name)
        if not isinstance(value, list | tuple):
            raise self._refusal(name, f"expected a list, not {_kind(value)}")
        for item in value:
            if not isinstance(item, str) or not pattern.fullmatch(item):
                raise self._refusal(name, f"{item!r} is not {form}")
        return frozenset(value)

    def block(self, name: str, read: Callable[["Block"], T]) -> T:
        """Return what `read` makes of the object called `name`."""
        return read(Block(self._required(name), self._path(name)))

    def maybe(self, name: str, read: Callable[["Block"], T]) -> T | None:
        """Return what `read` makes of the object called `name`; None when absent or null."""
        if self._fields.get(name) is None:
            return None
        return self.block(name, read)

    def named(self, name: str, read: Callable[["Block"], T]) -> dict[str, T]:
        """Return a map by free names, in document order; empty when absent or null."""
        if self._fields.get(name) is None:
            return {}
        entries = Block(self._fields[name], self._path(name))
        return {
            key: read(Block(value, entries._path(key))) for key, value in entries._fields.items()
        }

    def has(self, name: str) -> bool:
        """Say whether `name` holds anything; null counts as nothing."""
        return self._fields.get(name) is not None

    def _required(self, name: str) -> object:
        value = self._fields.get(name)
        if value is None:
            raise self._refusal(name, "missing, and a delivered policy is complete")
        return value

    def _refusal(self, name: str, reason: str) -> PolicyRejected:
        return PolicyRejected(self._path(name), reason)

    def _path(self, name: object) -> str:
        if not isinstance(name, str):
            raise PolicyRejected(self.path, f"expected text as a name, not {_kind(name)}")
        if not _PLAIN_KEY.match(name):
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            return f'{self.path}["{escaped}"]'
        return f"{self.path}.{name}" if self.path else name


def _shown(value: float) -> str:
    text = str(value)
    return text if len(text) <= 20 else f"{text[:20]}..."


def _kind(value: object) -> str:
    names = {bool: "true or false", str: "text", list: "a list", type(None): "null"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else "a number")
