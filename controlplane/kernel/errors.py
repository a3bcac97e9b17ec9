"""The error tree: each error has an HTTP status, a stable code and a sentence for a person.

Services raise these; the edges (API, pages, commands) translate them once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a document: where, and a sentence that says what would be right.

    `path` is a dotted path as `jsondoc.format_path` writes it; empty for the whole document.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class TidegateError(Exception):
    """Something a caller did, or must wait for. `str()` is the sentence to show."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class BadRequest(TidegateError):
    """The request itself makes no sense, whatever it asks for."""

    status = 400
    code = "bad-request"
    title = "That request makes no sense"


class InvalidInput(TidegateError):
    """What was sent cannot be used; `field` or `problems` say where and why."""

    status = 422
    code = "invalid-input"
    title = "The input is not valid"

    def __init__(
        self, message: str, *, field: str | None = None, problems: Iterable[Problem] = ()
    ) -> None:
        super().__init__(message, field=field)
        self.problems: tuple[Problem, ...] = tuple(problems)


class Unauthorized(TidegateError):
    """Nobody is signed in, or the token is unknown, revoked or expired."""

    status = 401
    code = "unauthorized"
    title = "Sign in first"


class Forbidden(TidegateError):
    """The actor is known, and may not do this."""

    status = 403
    code = "forbidden"
    title = "You may not do this"


class NotFound(TidegateError):
    """Nothing of that name exists."""

    status = 404
    code = "not-found"
    title = "Not found"


class Conflict(TidegateError):
    """The request contradicts the present state, or a request that came first."""

    status = 409
    code = "conflict"
    title = "Conflict with the present state"


class PreconditionFailed(TidegateError):
    """What the caller read is no longer current: read again, then decide again."""

    status = 412
    code = "precondition-failed"
    title = "It has changed since you read it"


class Unavailable(TidegateError):
    """Something this needs does not answer now; trying again later may work."""

    status = 503
    code = "unavailable"
    title = "Not available now"

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: float = 5.0
    ) -> None:
        super().__init__(message, field=field)
        self.retry_after_s = retry_after_s
