"""Reading a document before its meaning: bytes to plain JSON, with everything odd refused.

Duplicate keys, NaN, broken text and sizes that nobody writes by hand are refused here, each with
the path where it stands; what the fields mean is the business of `validate`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.kernel.jsondoc import format_path
from controlplane.policies.domain.fields import Field, node_for
from controlplane.policies.domain.messages import expected, kind_of

MAX_BYTES = 262_144
MAX_DEPTH = 16
MAX_VALUES = 20_000
MAX_KEY_CHARACTERS = 256
MAX_TEXT_CHARACTERS = 1000
MAX_PROBLEMS = 100
_MAX_DIGITS = 40
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


def parse_document(raw: bytes | str) -> dict[str, Any]:
    """Return a JSON object from its text: UTF-8, no duplicate keys, only finite numbers.

    Whole floats come back as integers: 2.0 as 2. A byte order mark at the start is ignored.

    Raises:
        InvalidInput: with a problem for every place that is not such JSON, as far as it can
            be read; text over 256 KiB is not read at all.
    """
    text = _decoded(raw)
    try:
        value = json.loads(
            text.removeprefix("\ufeff"),
            object_pairs_hook=_Pairs,
            parse_int=_integer,
            parse_constant=float,
        )
    except json.JSONDecodeError as error:
        raise invalid([Problem("", _syntax_message(error))]) from None
    except RecursionError:
        raise invalid([Problem("", _TOO_DEEP)]) from None
    clean, problems = plain_json(value)
    if not isinstance(clean, dict):
        problems = [Problem("", f"a policy document is an object, not {kind_of(value)}")]
    if problems:
        raise invalid(problems)
    return dict(clean)


def invalid(problems: Iterable[Problem]) -> InvalidInput:
    """Return the error that carries these problems and names the first in its own sentence."""
    found = list(problems)
    first = found[0]
    more = len(found) - 1
    message = str(first) if not more else f"{first} (and {more} more)"
    if len(found) > MAX_PROBLEMS:
        left = len(found) - MAX_PROBLEMS
        found = [*found[:MAX_PROBLEMS], Problem("", f"{left} more problems are not listed")]
    return InvalidInput(message, field=first.path or None, problems=found)


def plain_json(value: object) -> tuple[Any, list[Problem]]:
    """Return a copy of `value` as plain JSON without what is not, and what that was.

    Whole floats become integers, so that 2.0 and 2 are the same document.
    """
    reader = _Reader()
    clean = reader.read(value, ())
    return clean, reader.problems


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels; a policy document needs 7"
_OMITTED: Any = object()


class _Pairs(dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.duplicates: list[str] = []
        if len(self) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen and key not in self.duplicates:
                    self.duplicates.append(key)
                seen.add(key)


class _Reader:
    """Copies a JSON value, and notes what is wrong with its form."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._values = 0
        self._text_characters = 0

    def read(self, value: object, parts: tuple[str, ...]) -> Any:
        """Return a clean copy of a value; `_OMITTED` for one that cannot be JSON."""
        self._values += 1
        if self._values > MAX_VALUES or self._text_characters > MAX_BYTES:
            if not any(problem.path == "" for problem in self.problems):
                self._note(
                    (), f"too large: at most {MAX_VALUES:,} values and {MAX_BYTES:,} characters"
                )
            return _OMITTED
        if type(value) is int or value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, parts)
        if isinstance(value, dict):
            return self._object(value, parts)
        if isinstance(value, int | float):
            return self._number(value, parts)
        if isinstance(value, list):
            return self._list(value, parts)
        if isinstance(value, Mapping):
            return self._object(dict(value), parts)
        self._note(parts, f"{kind_of(value)} is not JSON")
        return _OMITTED

    def _object(self, value: dict[Any, Any], parts: tuple[str, ...]) -> Any:
        if len(parts) >= MAX_DEPTH:
            self._note(parts[:MAX_DEPTH], _TOO_DEEP)
            return _OMITTED
        for key in getattr(value, "duplicates", ()):
            self._note((*parts, _printable(key)), "the same key twice: keep one of them")
        clean: dict[str, Any] = {}
        for key, item in value.items():
            if self._is_key(key, parts):
                self._text_characters += len(key)
                copied = self.read(item, (*parts, key))
                if copied is not _OMITTED:
                    clean[key] = copied
        return clean

    def _list(self, value: list[Any], parts: tuple[str, ...]) -> Any:
        if len(parts) >= MAX_DEPTH:
            self._note(parts[:MAX_DEPTH], _TOO_DEEP)
            return _OMITTED
        items = [self.read(item, (*parts, str(index))) for index, item in enumerate(value)]
        return [item for item in items if item is not _OMITTED]

    def _is_key(self, key: object, parts: tuple[str, ...]) -> bool:
        if not isinstance(key, str):
            self._note(parts, f"a key must be text, not {kind_of(key)} ({key!r})")
        elif len(key) > MAX_KEY_CHARACTERS:
            self._note(
                parts, f"a key of {len(key)} characters: at most {MAX_KEY_CHARACTERS} are allowed"
            )
        elif _is_broken(key):
            self._note(parts, f"the key {_printable(key)!r} holds half a surrogate pair")
        else:
            return True
        return False

    def _text(self, value: str, parts: tuple[str, ...]) -> Any:
        self._text_characters += len(value)
        if _is_broken(value):
            self._note(parts, "text with half a surrogate pair is not valid Unicode")
            return _OMITTED
        if len(value) > MAX_TEXT_CHARACTERS:
            self._note(
                parts,
                f"text of {len(value)} characters: at most {MAX_TEXT_CHARACTERS} are allowed",
            )
            return _OMITTED
        return value

    def _number(self, value: float, parts: tuple[str, ...]) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            name = "NaN" if math.isnan(value) else "Infinity, or a number too large to hold,"
            node = node_for(parts)
            right = f": expected {expected(node)}" if isinstance(node, Field) else ""
            self._note(parts, f"{name} is not a finite number{right}")
            return _OMITTED
        if isinstance(value, float) and value.is_integer():
            return int(value)
        return value

    def _note(self, parts: tuple[str, ...], message: str) -> None:
        self.problems.append(Problem(format_path(parts), message))


def _decoded(raw: bytes | str) -> str:
    size = len(raw)
    if size > MAX_BYTES:
        raise invalid([Problem("", f"{size:,} bytes: at most {MAX_BYTES:,} (256 KiB) are read")])
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"not UTF-8: byte {error.start} (0x{raw[error.start]:02x}) starts no character"
        raise invalid([Problem("", f"{message}; save the document as UTF-8")]) from None


def _integer(digits: str) -> float:
    # Thousands of digits are slow to convert, and refused by Python itself from 4,301 on.
    return int(digits) if len(digits) <= _MAX_DIGITS else math.inf


def _syntax_message(error: json.JSONDecodeError) -> str:
    return f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}"


def _is_broken(text: str) -> bool:
    return not text.isascii() and _HALF_A_PAIR.search(text) is not None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
