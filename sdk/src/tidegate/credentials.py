"""Who asks the control plane, and at which address: checked before anything is sent.

Nothing here ever shows a token or a password, not in an error either: errors end up in logs.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

Token = str | Callable[[], str]
"""A token, or a function that returns the one to use now, called before every request."""

_HIDDEN = "[token]"


class TokenUnusable(ValueError):
    """There is no token to send now; the reason shows nothing of what there is instead."""


class Bearer:
    """The token of this process, whichever way it was given; space around it does not count.

    Raises:
        ValueError: it is neither a usable token nor a function.
    """

    __slots__ = ("_last", "_read")

    def __init__(self, token: Token) -> None:
        self._last = ""
        if isinstance(token, str):
            try:
                text = _checked(token)
            except TokenUnusable as problem:
                raise ValueError(f"token: expected one line of visible ASCII, {problem}") from None
            self._read: Callable[[], str] = lambda: text
        elif callable(token):
            self._read = token
        else:
            kind = type(token).__name__
            raise ValueError(f"token: expected a text or a function that returns one, not {kind}")

    def __call__(self) -> str:
        """The token to use now.

        Raises:
            TokenUnusable: the function failed, or returned none.
        """
        try:
            found: object = self._read()
        except Exception as problem:  # whatever an application's function raises ends no following
            raise TokenUnusable(f"its function {_failure(problem)}") from None
        try:
            self._last = _checked(found)
        except TokenUnusable as problem:
            raise TokenUnusable(f"what its function returned cannot be sent, {problem}") from None
        return self._last

    def hide(self, text: str) -> str:
        """Return a text from elsewhere, which may quote the token, without it."""
        return text.replace(self._last, _HIDDEN) if self._last else text


def bearer_of(token: Token) -> Bearer:
    """Return the bearer that this is, or a new one.

    Raises:
        ValueError: it is neither a usable token nor a function.
    """
    return token if isinstance(token, Bearer) else Bearer(token)


def checked_url(url: str) -> str:
    """Return the address of a control plane without space around it or a slash at its end.

    Raises:
        ValueError: nothing can be asked there.
    """
    problem = _problem_of_url(url)
    if problem:
        raise ValueError(f"url: expected an address such as https://tidegate.example, {problem}")
    return url.strip().rstrip("/")


def _checked(found: object) -> str:
    if not isinstance(found, str):
        raise TokenUnusable(f"not {type(found).__name__}")
    text = found.strip()
    if not text:
        raise TokenUnusable("and it is empty")
    if not text.isascii():
        raise TokenUnusable("and it holds a character that is not ASCII")
    if not text.isprintable():
        raise TokenUnusable("and it holds a control character")
    if " " in text:
        raise TokenUnusable("and it holds a space")
    return text


def _failure(problem: Exception) -> str:
    """What an exception is, without its text, which may quote what was read."""
    name = type(problem).__name__
    if isinstance(problem, OSError) and problem.strerror and problem.filename is not None:
        return f"failed: {name}, {problem.strerror}: {problem.filename!r}"
    return f"raised {name}"


def _problem_of_url(url: object) -> str:
    """Why nothing can be asked at this address; empty when something can."""
    if not isinstance(url, str):
        return f"as a text, not {type(url).__name__}"
    text = url.strip()
    if " " in text or not text.isprintable():
        return "and it holds a space or a control character"
    if not text.lower().startswith(("http://", "https://")):
        return "and it does not begin with http:// or https://"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "and it is no address"
    if "@" in parts.netloc:
        # It would be sent in the place of the token.
        return "without a user name or password: the token says who asks"
    if not parts.hostname:
        return "and it names no host"
    if parts.query or parts.fragment:
        return "without a query or a fragment"
    return _problem_of_place(text)


def _problem_of_place(text: str) -> str:
    try:
        _ = urlsplit(text).port
    except ValueError:
        return "and its port is no number up to 65535"
    try:
        httpx.URL(text)
    except httpx.InvalidURL:
        return "and it is no address"
    return ""
