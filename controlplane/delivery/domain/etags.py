"""Entity tags and conditions on them (RFC 9110, 8.8.3 and 13.1.2), compared weakly."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_TAGS = 64
MAX_TAG_BYTES = 130  # two quotes and what an InstanceReport can hold

_TAG = re.compile(rb'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_SEPARATOR = re.compile(rb"[ \t]*(?:,[ \t]*)+")
_OURS = re.compile(r"([0-9]{1,18})-([0-9]{1,4})-[0-9a-f]+")
_OURS_QUOTED = re.compile(rb'"([0-9]{1,18})-[0-9]{1,4}-[0-9a-f]+"')


class BadTag(ValueError):
    """A header that should hold entity tags holds something else."""


@dataclass(frozen=True, slots=True)
class Condition:
    """An If-None-Match: any representation at all, or one of these tags (quoted, not weak).

    `highest` is the highest sequence that one of the tags claims; 0 when none claims any.
    """

    is_any: bool
    tags: frozenset[bytes]
    highest: int = 0

    def matches(self, tag: bytes) -> bool:
        """Say whether `tag` (quoted, as on the wire) meets the condition, weakly compared."""
        return self.is_any or tag.removeprefix(b"W/") in self.tags

    def sequence_above(self, sequence: int) -> int:
        """Return the highest sequence above `sequence` that one of the tags claims; 0 for none.

        A client that holds more than this process was told so by another process, or by this
        one before its database went back in time: it must not be sent less.
        """
        return self.highest if self.highest > sequence else 0

    def on_tags_with(self, ending: bytes) -> Condition:
        """Return this condition on the tags with this ending (such as `.x1"`), without it.

        Adapters tell their words for a policy by such an ending; tags of other words are left out.
        """
        tags = frozenset(
            tag.removesuffix(ending) + b'"' for tag in self.tags if tag.endswith(ending)
        )
        return Condition(is_any=self.is_any, tags=tags, highest=_highest(tags))


def parse_condition(value: bytes) -> Condition:
    """Read the value of an If-None-Match header.

    Raises:
        BadTag: neither `*` nor a list of quoted entity tags, or more than 64 of them.
    """
    text = value.strip(b" \t")
    if text == b"*":
        return Condition(is_any=True, tags=frozenset())
    # A sender may leave empty elements in a list (RFC 9110, 5.6.1.2): `, "a",, "b" ,`.
    position = _skip_separator(text, 0)
    tags: set[bytes] = set()
    while position < len(text):
        match = _TAG.match(text, position)
        if match is None:
            raise BadTag('expected * or quoted entity tags, such as "41-0-9f3c"')
        tags.add(match[1])
        if len(tags) > MAX_TAGS:
            raise BadTag(f"holds more than {MAX_TAGS} entity tags")
        position = match.end()
        after = _skip_separator(text, position)
        if after == position < len(text):
            raise BadTag("entity tags are separated by commas")
        position = after
    if not tags:
        raise BadTag('is empty; expected * or quoted entity tags, such as "41-0-9f3c"')
    return Condition(is_any=False, tags=frozenset(tags), highest=_highest(tags))


def parse_tag(value: bytes) -> bytes:
    """Read exactly one entity tag and return it quoted and without `W/`.

    Raises:
        BadTag: not one quoted entity tag, or longer than 128 characters.
    """
    match = _TAG.fullmatch(value.strip(b" \t"))
    if match is None:
        raise BadTag('expected one quoted entity tag, such as "41-0-9f3c"')
    if len(match[1]) > MAX_TAG_BYTES:
        raise BadTag(f"holds an entity tag of more than {MAX_TAG_BYTES - 2} characters")
    return match[1]


def claimed_position(etag: str) -> tuple[int, int] | None:
    """Return the (sequence, step) that an unquoted etag claims to be; None for a foreign one.

    A claim is not a fact: compare the whole etag with the publication's before believing it.
    """
    match = _OURS.fullmatch(etag)
    return (int(match[1]), int(match[2])) if match else None


def _highest(tags: Iterable[bytes]) -> int:
    claims = (_OURS_QUOTED.fullmatch(tag) for tag in tags)
    return max((int(claim[1]) for claim in claims if claim), default=0)


def _skip_separator(text: bytes, position: int) -> int:
    match = _SEPARATOR.match(text, position)
    return match.end() if match else position
