"""The SDK's own bounds on real time, moved to where they say no more than "hung".

For tests on real sockets, real locks and real processes, and for the scripts that these start:
however slow the machine is, what comes is waited for.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.waiting import HUNG_S
from tidegate import control_plane, directory_lock, sync_client

_BOUNDS = (
    (control_plane, "_CONNECT_S"),
    (control_plane, "_ANSWER_S"),
    (control_plane, "FIRST_BYTE_S"),
    (directory_lock, "PATIENCE_S"),
    (sync_client, "_STOP_S"),
)


def be_patient(change: Callable[[object, str, float], None] = setattr) -> None:
    """Move the bounds, by `monkeypatch.setattr` in a test and for good in a script."""
    for module, name in _BOUNDS:
        change(module, name, HUNG_S)
