"""Request bodies: strict JSON, bounded, and without fields that nobody reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from controlplane.kernel.jsondoc import format_path

MAX_BODY_BYTES = 512 * 1024  # a policy document is at most 256 KiB
MAX_DIGITS = 100
_JSON_KINDS = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of such bytes


class MalformedBody(ParseError):
    """A body that cannot be read; `path` says where in it, as far as that can be told."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def too_large() -> MalformedBody:
    """Return the refusal of a body over the limit."""
    return MalformedBody(f"the body is larger than {MAX_BODY_BYTES // 1024} KiB")


class StrictJSONParser(BaseParser):
    """JSON as RFC 8259 means it: UTF-8, no key twice, no endless nesting or digits.

    NaN and infinities pass as such: the field that holds one refuses it, and so names it.
    """

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the parsed body.

        Raises:
            MalformedBody: it is not strict JSON, or larger than 512 KiB; the text says where.
        """
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise too_large()
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise MalformedBody(
                f"the body is not UTF-8 at byte {error.start + 1}", path=_path_of_bytes(raw)
            ) from None
        value = _loaded(text)
        for parts, found in _walk(value):
            if isinstance(found, _Fault):
                path = format_path((*parts, *found.below))
                raise MalformedBody(f"the body is not valid JSON: {found.message}", path=path)
        return value


class StrictSerializer(serializers.Serializer[Any]):
    """A request body in which an unknown field is an error, not a silent nothing."""

    def run_validation(self, data: Any = serializers.empty) -> Any:
        """Return the validated fields; refuse a body that is no object, in the words of JSON."""
        if self.parent is None and data is not serializers.empty and not isinstance(data, Mapping):
            known = f" with the fields {', '.join(self.fields)}" if self.fields else ""
            kind = _JSON_KINDS.get(type(data), "a number")
            raise serializers.ValidationError(
                {"non_field_errors": [f"the body must be an object{known}, not {kind}"]}
            )
        return super().run_validation(data)

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated fields; refuse those that this body does not have."""
        if isinstance(data, Mapping):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                known = ", ".join(self.fields)
                raise serializers.ValidationError(
                    {name: [f"no field is named so; known fields: {known}"] for name in unknown}
                )
        return super().to_internal_value(data)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Stands in the parsed body where it cannot be read, so that its path can be told."""

    message: str
    below: tuple[str, ...] = ()


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, parse_int=_integer, object_pairs_hook=_object_of)
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedBody(f"the body is not valid JSON: {error}") from None


def _integer(digits: str) -> int | _Fault:
    if len(digits) > MAX_DIGITS:
        return _Fault(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are read")
    return int(digits)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Fault:
    document = dict(pairs)
    if len(document) == len(pairs):
        return document
    seen: set[str] = set()
    twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    return _Fault(f"the key {json.dumps(twice)} appears twice in one object", (twice,))


def _walk(value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every value and key with its path, in the order of the text; no recursion."""
    left: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while left:
        parts, here = left.pop()
        yield parts, here
        if isinstance(here, dict):
            left.extend(((*parts, key), item) for key, item in reversed(here.items()))
        elif isinstance(here, list):
            left.extend(((*parts, str(at)), item) for at, item in reversed(list(enumerate(here))))


def _path_of_bytes(raw: bytes) -> str:
    """Return the path of the first text that is not UTF-8; empty when that cannot be told."""
    try:
        value = _loaded(raw.decode(errors="surrogateescape"))
    except MalformedBody:
        return ""
    for parts, here in _walk(value):
        if _NOT_UTF8.search("".join(parts[-1:])):
            return format_path(parts[:-1])
        if isinstance(here, str) and _NOT_UTF8.search(here):
            return format_path(parts)
    return ""
