"""JSON documents: canonical bytes, content hashes, dotted paths and merge patches."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = "dict[str, JSON] | list[JSON] | str | int | float | bool | None"

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PATH_PART = re.compile(r'\["(?P<quoted>(?:[^"\\]|\\.)*)"\]|(?P<dot>\.?)(?P<plain>[A-Za-z0-9_-]+)')


def canonical_json(value: object) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no spaces, whole floats as integers.

    Databases may return 2.0 as 2 and 1e20 as an integer; the spelling does not depend on that.

    Raises:
        ValueError: the value holds NaN, an infinity, or text that is not valid Unicode.
        TypeError: the value is not JSON.
    """
    text = json.dumps(
        _with_whole_numbers(value),
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
        allow_nan=False,
    )
    return text.encode()


def content_hash(value: object) -> str:
    """Return the SHA-256 of the canonical spelling, as 64 hexadecimal characters."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def format_path(parts: tuple[str, ...]) -> str:
    """Return a dotted path; odd keys are quoted: `inbound.endpoints["POST /orders"].rate.per_s`."""
    pieces: list[str] = []
    for part in parts:
        if not _PLAIN_KEY.fullmatch(part):
            pieces.append(f"[{json.dumps(part, ensure_ascii=False)}]")
        elif pieces:
            pieces.append(f".{part}")
        else:
            pieces.append(part)
    return "".join(pieces)


def parse_path(text: str) -> tuple[str, ...]:
    """Return the parts of a path that `format_path` wrote; () for the empty path.

    Raises:
        ValueError: `text` is not such a path.
    """
    parts: list[str] = []
    position = 0
    while position < len(text):
        match = _PATH_PART.match(text, position)
        if match is None or (match["plain"] is not None and bool(match["dot"]) != bool(parts)):
            raise ValueError(f"{text!r} is not a path: stopped at character {position + 1}")
        if match["plain"] is not None:
            parts.append(match["plain"])
        else:
            parts.append(str(json.loads(f'"{match["quoted"]}"')))
        position = match.end()
    return tuple(parts)


def merge_patch(target: object, patch: object) -> Any:
    """Return `target` with an RFC 7396 merge patch applied; neither argument is changed.

    A null in the patch deletes, an object merges, anything else replaces.
    """
    if not isinstance(patch, Mapping):
        return _copied(patch)
    merged = _copied(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def _copied(value: object) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(item) for item in value]
    return value


def _with_whole_numbers(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _with_whole_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_whole_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
