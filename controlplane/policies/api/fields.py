"""Refusals of services, said in the words of the request body."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from controlplane.kernel.errors import InvalidInput, Problem


@contextmanager
def field_named(argument: str, field: str) -> Iterator[None]:
    """Let a refusal name the field of the body rather than the argument it became."""
    try:
        yield
    except InvalidInput as error:
        if error.field != argument:
            raise
        raise InvalidInput(
            error.message, field=field, problems=(Problem(field, error.message),)
        ) from error
