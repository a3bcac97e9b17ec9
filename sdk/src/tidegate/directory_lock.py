"""One writer at a time in a directory that several processes share."""

from __future__ import annotations

import errno
import os
import sys
import time
from pathlib import Path
from types import TracebackType

from tidegate.clock import monotonic_s
from tidegate.forks import renew_in_children

if sys.platform != "win32":
    import fcntl

PATIENCE_S = 2.0  # a writer needs milliseconds: after this, another one is stopped or stuck
_LOOK_EVERY_S = 0.01
# What file systems say that know no locks, or none of directories: NFS locks only what is open for
# writing. There nobody is kept away, and of two writers at once the later one wins.
_KNOWS_NO_LOCKS = frozenset(
    {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EINVAL}
)


class DirectoryLock:
    """Keeps the other writers of a directory away while it is entered; threads of ours as well.

    The directory itself is locked, so no file is left in it.

    Raises:
        OSError: the directory cannot be opened, or somebody kept it for over `PATIENCE_S`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        renew_in_children(self)

    def __enter__(self) -> None:
        if sys.platform == "win32":
            return
        self._descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            self._wait(self._descriptor)
        except BaseException:
            self._close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor is not None and sys.platform != "win32":
            # Closing alone would not do: a child that was forked meanwhile has it open as well.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._close()

    def renew_after_fork(self) -> None:
        """Let go of what the parent holds: it would stay locked for as long as the child lives."""
        self._close()

    def _wait(self, descriptor: int) -> None:
        if sys.platform == "win32":
            return
        give_up_at_s = monotonic_s() + PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic_s() >= give_up_at_s:
                    raise TimeoutError(
                        f"another process has kept {self._directory} for {PATIENCE_S:g} s"
                    ) from None
            except OSError as problem:
                if problem.errno not in _KNOWS_NO_LOCKS:
                    raise
                return
            else:
                return
            time.sleep(_LOOK_EVERY_S)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
