"""How long a request may take: read from its caller, and enforced by cancelling its handler."""

import asyncio
from types import TracebackType

# No caller may hold a place for longer than this, whatever it asks for.
MAX_DEADLINE_MS = 600_000.0
_MAX_WHOLE_MS = int(MAX_DEADLINE_MS)


def parse_deadline_ms(header: bytes) -> float | None:
    """Return the milliseconds a caller still waits; None when the header is not a number.

    Zero and less mean that nobody waits any more.
    """
    try:
        remaining_ms = int(header)
    except ValueError:
        return None
    # Whole numbers are compared before any becomes a float, which not every one can.
    return float(min(max(remaining_ms, -_MAX_WHOLE_MS), _MAX_WHOLE_MS))


class Deadline:
    """Cancels the task it is entered in once `remaining_s` have passed.

    Like `asyncio.timeout`, but it swallows its own cancellation and then says `passed`, and it
    is not a coroutine: entering and leaving it costs about a microsecond.
    """

    __slots__ = ("_cancelling", "_is_lifted", "_remaining_s", "_task", "_timer", "passed")

    def __init__(self, remaining_s: float) -> None:
        self._remaining_s = remaining_s
        self._is_lifted = False
        self.passed = False

    def __enter__(self) -> "Deadline":
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a deadline needs a task to cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = loop.call_later(self._remaining_s, self._expire)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if self._is_lifted:
            return False
        self._timer.cancel()
        if not self.passed:
            return False
        # Somebody else may have cancelled the task too: then the cancellation goes on.
        others = self._task.uncancel() > self._cancelling
        return isinstance(error, asyncio.CancelledError) and not others

    def lift(self) -> None:
        """Cancel nothing from now on, however long it takes; too late once it has passed."""
        if not self.passed and not self._is_lifted:
            self._is_lifted = True
            self._timer.cancel()

    def _expire(self) -> None:
        self.passed = True
        self._task.cancel()
