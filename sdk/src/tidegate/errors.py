"""What can go wrong in the client, each error named for what is wrong."""

import httpx


class TidegateError(Exception):
    """The root of everything this package raises on purpose."""


class PolicyRejected(TidegateError):
    """A delivered policy that this client cannot trust; the one in force stays.

    `path` names the field (`inbound.endpoints["POST /orders"].rate.per_s`), `reason` says
    what would be right.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


class VerificationUnavailable(TidegateError):
    """Keys are pinned, and nothing is installed that could verify a signature."""

    def __init__(self) -> None:
        super().__init__(
            "pinned_keys need the cryptography package: pip install 'tidegate[verify]', "
            "or pin no keys and policies are taken unverified"
        )


class BreakerOpen(TidegateError, httpx.TransportError):
    """The breaker of `dependency` is open: the call was refused without being sent."""

    def __init__(
        self, dependency: str, retry_after_s: float, request: httpx.Request | None = None
    ) -> None:
        message = f"the breaker of {dependency} is open; try again in {retry_after_s:.1f} s"
        httpx.TransportError.__init__(self, message, request=request)
        self.dependency = dependency
        self.retry_after_s = retry_after_s


class DeadlineExceeded(TidegateError, httpx.TimeoutException):
    """The request's deadline passed before `dependency` answered."""

    def __init__(self, dependency: str, request: httpx.Request | None = None) -> None:
        message = f"the deadline passed before {dependency} answered"
        httpx.TimeoutException.__init__(self, message, request=request)
        self.dependency = dependency
