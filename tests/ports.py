"""Ports for what tests start."""

from __future__ import annotations

import fcntl
import os
import random
import tempfile
from pathlib import Path

from deploy.local.ports import is_free


def find_free_port() -> int:
    """Return a port below the ephemeral range with room above it, which nobody else is given.

    Neither in this process nor in another that runs tests on this machine: what is free now is
    listened on a moment later.
    """
    # Not the generator that each test starts from the same seed: all would try the same ports.
    choose = random.SystemRandom()
    while True:
        port = choose.randrange(20_000, 32_000, 50)
        if _reserve(port) and all(is_free(port + offset) for offset in range(40)):
            return port


def _reserve(port: int) -> bool:
    """Keep a port for this process for as long as it lives; False when it is somebody's."""
    path = Path(tempfile.gettempdir()) / f"tidegate-test-port-{os.getuid()}-{port}"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    return True
