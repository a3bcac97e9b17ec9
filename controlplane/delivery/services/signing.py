"""Signs what this process delivers: opens the keys, and changes to the next one by the clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import structlog

from controlplane.delivery.domain.jws import PrivateKey
from controlplane.delivery.domain.keyring import AnnouncedKey, active_key, next_switch_unix
from controlplane.delivery.domain.sealing import CannotOpen, Seal
from controlplane.delivery.hotpath.keys import KeysAddress
from controlplane.delivery.hotpath.lanes import Sign
from controlplane.delivery.services.instruments import SIGNS

CLOCK_CHECK_S = 1.0  # the longest that a jump of the wall clock can delay the next key

logger = structlog.get_logger(__name__)


class Signer:
    """Gives the store the active key to sign with, and `address` the list that clients read.

    A key that does not open with this process's secret is said once and not used. While it is
    the active one, answers carry no signature: clients that pin keys keep the policy they have
    and say so, the others go on. All methods run on the event loop's thread.
    """

    def __init__(
        self,
        address: KeysAddress,
        use: Callable[[Sign | None], None],
        *,
        secret: str,
        clock: Callable[[], float],
    ) -> None:
        self._address = address
        self._use = use
        self._seal = Seal(secret)
        self._clock = clock
        self._keys: Sequence[AnnouncedKey] = ()
        self._opened: dict[tuple[str, str], PrivateKey | None] = {}
        self._in_use: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_keys(self) -> bool:
        """False while no key is known at all: then the first one has yet to be made."""
        return bool(self._keys)

    def put(self, keys: Sequence[AnnouncedKey]) -> None:
        """Sign with, and announce, these keys from now on."""
        self._keys = keys
        self._address.put(keys)
        known = {(key.kid, key.sealed) for key in keys}
        self._opened = {found: key for found, key in self._opened.items() if found in known}
        self.advance()

    def advance(self) -> None:
        """Sign with the key that the clock says."""
        now = self._clock()
        chosen = active_key(self._keys, now)
        private = None if chosen is None else self._open(chosen)
        kid = None if private is None else private.kid
        if kid != self._in_use:
            self._in_use = kid
            self._use(None if private is None else private.sign)
            logger.info("signing_key.in_use", kid=kid)
        SIGNS.set(0 if private is None else 1)
        self._arm(next_switch_unix(self._keys, now) - now)

    def _open(self, key: AnnouncedKey) -> PrivateKey | None:
        # As it is sealed, too: a key that was sealed anew may open where it did not before.
        found = (key.kid, key.sealed)
        if found not in self._opened:
            try:
                self._opened[found] = self._seal.open(key.sealed, key.kid)
            except CannotOpen as problem:
                self._opened[found] = None
                logger.error(
                    "signing_key.unopened", kid=key.kid, error=str(problem), answers="unsigned"
                )
        return self._opened[found]

    def _arm(self, after_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if after_s == math.inf:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # filled before the loop runs; the first look of the feed on it arms
        self._timer = loop.call_later(min(max(after_s, 0.0), CLOCK_CHECK_S), self.advance)
