"""How a policy field is declared: one call gives its default, unit, range, title and help.

The models of `inbound` and `outbound` are made of these; validation, messages, JSON Schema, the
Tune page's controls and the reference page all read the same declaration.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Block(BaseModel):
    """An object of the document: nothing unknown in it, nothing converted, nothing infinite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


def measure(
    default: float | None,
    unit: str,
    limits: tuple[float, float],
    title: str,
    help_text: str,
    *,
    example: float | None = None,
) -> Any:
    """Declare a number in `unit`, from and up to `limits`. No default: whoever sets it must say."""
    low, high = limits
    shown = example if example is not None else default
    return Field(
        default,
        ge=low,
        le=high,
        title=title,
        description=help_text,
        examples=None if shown is None else [shown],
        json_schema_extra={"unit": unit},
    )


def switch(default: bool, title: str, help_text: str) -> Any:
    """Declare a field that is true or false."""
    return Field(default, title=title, description=help_text, examples=[default])


def choice(default: str, title: str, help_text: str) -> Any:
    """Declare a field that takes one of a few words."""
    return Field(default, title=title, description=help_text, examples=[default])


def words(default: Sequence[str], at_most: int, title: str, help_text: str) -> Any:
    """Declare a list of distinct words; a layer that sets it replaces the whole list."""
    return Field(
        list(default),
        max_length=at_most,
        title=title,
        description=help_text,
        examples=[list(default)],
        json_schema_extra={"uniqueItems": True},
    )


def part(kind: type[Block], title: str, help_text: str) -> Any:
    """Declare an object that is always there in a complete policy."""
    return Field(default_factory=kind, title=title, description=help_text)


def optional_part(title: str, help_text: str) -> Any:
    """Declare an object that applies only where somebody set it; null removes it."""
    return Field(None, title=title, description=help_text)


def by_name(names: Names, title: str, help_text: str) -> Any:
    """Declare a map from names to objects; null removes an entry of a lower layer."""
    return Field(
        default_factory=dict,
        max_length=names.at_most,
        title=title,
        description=f"{help_text} At most {names.at_most}.",
        json_schema_extra={"additionalProperties": False},
    )


@dataclass(frozen=True, slots=True)
class Names:
    """What the keys of a map may look like, and how to say so."""

    noun: str
    pattern: str
    form: str
    example: str
    at_most: int

    def allows(self, key: str) -> bool:
        """Whether `key` is such a name."""
        return re.fullmatch(self.pattern.removeprefix("^").removesuffix("$"), key) is not None


ENDPOINTS = Names(
    noun="endpoint",
    pattern=(
        r"^(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|QUERY) "
        r"/(?:[^\s?#{}\x00-\x1f\x7f\x22\\]|\{[A-Za-z_][A-Za-z0-9_]*(?::[a-z]+)?\}){0,199}$"
    ),
    form="METHOD /route: the method in capitals, one space, the route without a query",
    example="POST /orders",
    at_most=200,
)
DEPENDENCIES = Names(
    noun="dependency",
    pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    form="1 to 63 letters, digits, '.', '_' or '-', a letter or digit at both ends",
    example="payments",
    at_most=100,
)
TENANTS = Names(
    noun="tenant",
    pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@/+-]{0,63}$",
    form="1 to 64 letters, digits, or one of . _ : @ / + -, a letter or digit first",
    example="acme",
    at_most=500,
)
FEATURES = Names(
    noun="feature",
    pattern=r"^[A-Za-z][A-Za-z0-9._-]{0,62}$",
    form="1 to 63 letters, digits, '.', '_' or '-', a letter first",
    example="recommendations",
    at_most=100,
)

EndpointKey = Annotated[str, StringConstraints(pattern=ENDPOINTS.pattern)]
DependencyName = Annotated[str, StringConstraints(pattern=DEPENDENCIES.pattern)]
TenantName = Annotated[str, StringConstraints(pattern=TENANTS.pattern)]
FeatureName = Annotated[str, StringConstraints(pattern=FEATURES.pattern)]

NAMES = {
    "endpoints": ENDPOINTS,
    "dependencies": DEPENDENCIES,
    "named": TENANTS,
    "features": FEATURES,
}
