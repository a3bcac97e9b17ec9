"""The name under which a process says what it enforces."""

from __future__ import annotations

import os
import re
import secrets
import socket

LONGEST_NAME = 128
_NAME = re.compile(r"[A-Za-z0-9._:\-]+")


class Identity:
    """The name it was given, or else one that is made for each process that asks.

    A process that loads an application and then forks its workers would otherwise share the one
    it made with all of them, and of many instances the control plane would see one.

    Raises:
        ValueError: the given name is none that the control plane takes.
    """

    def __init__(self, given: str | None = None) -> None:
        if given is not None and not is_name(given):
            raise ValueError(
                f"instance_id: expected 1 to {LONGEST_NAME} of: letters, digits, . _ : -, "
                f"not {given!r}"
            )
        self._given = given
        self._made: dict[int, str] = {}  # by process

    @property
    def name(self) -> str:
        """The name of this process."""
        if self._given is not None:
            return self._given
        process = os.getpid()
        # Of threads that ask at once, all get what the first one made.
        return self._made.get(process) or self._made.setdefault(process, _make_name(process))


def is_name(text: str) -> bool:
    """Whether the control plane takes this for the name of an instance."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


def forked_name(given: str, process: int) -> str:
    """A name for a forked child of the process that was given this one."""
    suffix = f"-{process}"
    return given[: LONGEST_NAME - len(suffix)] + suffix


def _make_name(process: int) -> str:
    host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:80] or "host"
    return f"{host}-{process}-{secrets.token_hex(3)}"
