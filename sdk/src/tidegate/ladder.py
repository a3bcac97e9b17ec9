"""Which way policies come: by stream where streams work, else by held poll, else by plain poll.

Pure decisions over what happened; nothing here waits or sends. What looks like a transport that
does not work (a stream cut early, a held poll answered at once) may as well be a server that
restarts: it counts only when a plain poll is answered right after it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import StrEnum

from tidegate.clock import Clock

log = logging.getLogger("tidegate")

AUTO = "auto"

LONGEST_WAIT_S = 60.0  # what the control plane holds a poll for, whatever it is asked for

_STRIKES = 4  # and over at least _SPAN_S: a rolling restart is not a broken proxy
_SPAN_S = 30.0
_FIRST_CLIMB_S = 300.0
_LAST_CLIMB_S = 3600.0


class ConfigTransport(StrEnum):
    """How policies reach this process, best first."""

    STREAM = "stream"
    LONG_POLL = "long_poll"
    POLL = "poll"


def wait_to_ask_for_s(wait_s: float) -> float:
    """The whole seconds of a held poll: what is asked for beyond them would never be waited.

    Raises:
        ValueError: less than nothing.
    """
    if not wait_s >= 0.0:  # NaN is nowhere
        raise ValueError(f"wait_s: expected 0 seconds or more, not {wait_s!r}")
    return float(int(min(wait_s, LONGEST_WAIT_S)))


def transports_of(option: str, wait_s: float) -> tuple[ConfigTransport, ...]:
    """The transports that an option allows, best first; "auto" with no wait is plain polling.

    Raises:
        ValueError: no such option.
    """
    if option == AUTO:
        return tuple(ConfigTransport) if wait_s else (ConfigTransport.POLL,)
    try:
        chosen = ConfigTransport(option)
    except ValueError:
        names = ", ".join((AUTO, *ConfigTransport))
        raise ValueError(f"transport: expected one of {names}, not {option!r}") from None
    if chosen is ConfigTransport.LONG_POLL and not wait_s:
        return (ConfigTransport.POLL,)
    return (chosen,)


class Ladder:
    """Steps down when a transport does not work here, and tries the better one again later.

    Args:
        transports: what is allowed, best first; with one there is nowhere to step.
        uniform: luck from 0 to 1, so that clients behind one proxy do not climb together.
    """

    def __init__(
        self,
        transports: tuple[ConfigTransport, ...],
        monotonic: Clock,
        uniform: Callable[[], float],
    ) -> None:
        self._transports = transports
        self._monotonic = monotonic
        self._uniform = uniform
        self._rung = 0
        self._climb_at_s = 0.0
        self._climb_s = _FIRST_CLIMB_S
        self._is_trying = False
        self._suspicion: tuple[str, bool] | None = None
        self._forget_strikes()

    @property
    def transport(self) -> ConfigTransport:
        """The transport in use."""
        return self._transports[self._rung]

    def choose(self) -> ConfigTransport:
        """The transport to use next: a better one than before when it is time to try it."""
        if self._rung > 0 and not self._is_trying and self._monotonic() >= self._climb_at_s:
            self._rung -= 1
            self._is_trying = True
            self._suspicion = None
            self._forget_strikes()
            log.info("trying to follow the control plane by %s again", self.transport)
        return self.transport

    def works(self) -> None:
        """The transport in use did what it is for; whatever was held against it is forgotten."""
        self._suspicion = None
        self._forget_strikes()
        if self._is_trying:
            self._is_trying = False
            self._climb_s = _FIRST_CLIMB_S
            self._plan_climb()

    def suspect(self, reason: str, *, is_grave: bool = False) -> None:
        """The transport in use may not work here, or the control plane is away.

        A grave suspicion needs no repetition: when it is the transport, it is left.
        """
        self._suspicion = (reason, is_grave)

    def answered(self) -> None:
        """A plain poll was answered: a suspicion of before was about the transport."""
        suspicion, self._suspicion = self._suspicion, None
        if suspicion is None:
            return
        reason, is_grave = suspicion
        if is_grave:
            self.step_down(reason)
        else:
            self.strike(reason)

    def unanswered(self) -> None:
        """A plain poll was not answered either: the control plane is away, whatever the way."""
        self._suspicion = None

    def strike(self, reason: str) -> None:
        """Count one failure that is the transport's own; enough of them mean a step down."""
        now_s = self._monotonic()
        if self._strikes == 0:
            self._since_s = now_s
        self._strikes += 1
        if self._is_trying or (self._strikes >= _STRIKES and now_s - self._since_s >= _SPAN_S):
            self.step_down(reason)

    def step_down(self, reason: str) -> None:
        """The transport in use does not work here; without a lesser one it stays."""
        self._suspicion = None
        if self._rung + 1 >= len(self._transports):
            return
        if self._is_trying:
            self._climb_s = min(self._climb_s * 2.0, _LAST_CLIMB_S)
        left, self._is_trying = self.transport, False
        self._rung += 1
        self._forget_strikes()
        self._plan_climb()
        log.warning("%s does not work here (%s): following by %s", left, reason, self.transport)

    def _forget_strikes(self) -> None:
        self._strikes = 0
        self._since_s = 0.0

    def _plan_climb(self) -> None:
        self._climb_at_s = self._monotonic() + self._climb_s * (0.5 + self._uniform())
