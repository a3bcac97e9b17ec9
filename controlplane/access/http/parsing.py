"""Request bodies: strict JSON, bounded, and without fields that nobody reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

MAX_BODY_BYTES = 512 * 1024  # a policy document is at most 256 KiB
MAX_DIGITS = 100


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
            ParseError: it is not strict JSON, or larger than 512 KiB; the text says where.
        """
        raw = stream.read(MAX_BODY_BYTES + 1)
        if len(raw) > MAX_BODY_BYTES:
            raise ParseError(f"the body is larger than {MAX_BODY_BYTES // 1024} KiB")
        try:
            return json.loads(
                raw.decode(),
                parse_int=_integer,
                object_pairs_hook=_object_of,
            )
        except UnicodeDecodeError as error:
            raise ParseError(f"the body is not UTF-8 at byte {error.start + 1}") from None
        except RecursionError:
            raise ParseError("the body is nested too deeply") from None
        except ValueError as error:
            raise ParseError(f"the body is not valid JSON: {error}") from None


class StrictSerializer(serializers.Serializer[Any]):
    """A request body in which an unknown field is an error, not a silent nothing."""

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


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are read")
    return int(digits)


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {json.dumps(twice)} appears twice in one object")
    return document
