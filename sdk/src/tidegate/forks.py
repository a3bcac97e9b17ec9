"""What a forked child makes anew: it has the memory of every thread of its parent, and one thread.

A lock that another thread held at the fork is released by nobody in the child. So whoever has a
lock says so here, and gets to replace it before anything else runs in the child.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Forked(Protocol):
    """What has something that must not be inherited."""

    def renew_after_fork(self) -> None:
        """Begin anew in a child, in which no other thread runs; may wait for nothing."""
        ...


def renew_in_children(owner: Forked) -> None:
    """Have `owner` renewed in every forked child, for as long as anybody holds it."""
    _owners.add(owner)


_owners: WeakSet[Forked] = WeakSet()


def _renew_all() -> None:
    for owner in list(_owners):
        owner.renew_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
