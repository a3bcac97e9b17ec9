"""How often somebody may try to sign in, and what the audit log may say about it. Pure rules."""

from __future__ import annotations

import hashlib
import hmac
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from controlplane.access.domain.addresses import network_of
from controlplane.kernel.errors import Unavailable

BUCKETS = 2**14
"""Counters of one kind in one window. A name or address is hashed into one of them, with a key
that nobody outside knows: made-up names cost no memory, and nobody can aim at another's counter."""
LONGEST_NAME = 150  # characters: what a user name may have


class Kind(StrEnum):
    """What one counter counts the attempts of."""

    NAME_AND_ADDRESS = "name and address"
    NAME_AND_BROWSER = "name and browser"
    ADDRESS = "address"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many wrong passwords are looked at in one window; right ones are given back.

    Windows are those of the clock, so twice as many fit around the turn of one. The defaults, for
    300 s, and why:

    - 5 of one name from one address: more typing errors than anybody makes, and 1,440 guesses a
      day at most. This is the one that people meet.
    - 30 from one address, whatever the names: an office behind one address on a Monday morning
      stays under it. A list of names tried with one password does not.
    - 100 of one name from everywhere: it takes 20 addresses to reach it, and it bounds what a
      botnet may guess. Reaching it shuts the owner out of browsers they never used, for at most
      a window after the attack ends; a browser that has signed in as that name before is counted
      by itself, and so cannot be shut out by others.
    """

    window_s: int
    per_name_and_address: int
    per_address: int
    per_name: int


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter in the present window, and the most it may reach."""

    kind: Kind
    key: str
    most: int


class TooManySignIns(Unavailable):
    """More attempts than are looked at in one window; the password was not."""

    status = 429
    code = "too-many-sign-ins"
    title = "Too many attempts to sign in"


def counters_of(
    name: str, address: str, browser: str, *, limits: Limits, secret: bytes, now: datetime
) -> tuple[Counter, ...]:
    """Return what an attempt counts in, strictest first.

    Args:
        browser: what a browser proved that signed in as this name before; empty for any other.
    """
    who = name.casefold()
    window = int(now.timestamp() // limits.window_s)

    def counter(kind: Kind, most: int, *parts: str) -> Counter:
        text = "\0".join((kind, *parts)).encode("utf-8", "replace")
        bucket = int.from_bytes(hmac.digest(secret, text, hashlib.sha256)[:8]) % BUCKETS
        return Counter(kind, f"sign-in:{kind.replace(' ', '-')}:{window}:{bucket}", most)

    if browser:
        return (counter(Kind.NAME_AND_BROWSER, limits.per_name_and_address, who, browser),)
    network = network_of(address)
    return (
        counter(Kind.NAME_AND_ADDRESS, limits.per_name_and_address, who, network),
        counter(Kind.ADDRESS, limits.per_address, network),
        counter(Kind.NAME, limits.per_name, who),
    )


def too_many(limits: Limits, *, now: datetime) -> TooManySignIns:
    """Return the refusal, which says when the next window begins."""
    start_s = (int(now.timestamp() // limits.window_s) + 1) * limits.window_s
    again_at = datetime.fromtimestamp(start_s, tz=UTC)
    left = again_at - now
    minutes = math.ceil(left / timedelta(minutes=1))
    return TooManySignIns(
        f"Too many attempts to sign in. Try again after {again_at:%H:%M:%S} UTC, in "
        f"{minutes} {'minute' if minutes == 1 else 'minutes'}; until then no password is looked "
        "at, not even the right one.",
        retry_after_s=math.ceil(left.total_seconds()),
    )


def shown_name(name: str) -> str:
    """Return a user name as the audit log may hold it: printable, and bounded in length."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in name)[
        :LONGEST_NAME
    ]
