"""Envoy's v3 API as far as Tidegate speaks it, strictly: what all resources share, and runtime.

Envoy takes unknown fields and unknown enum values of a discovery answer with no more than a
line in its log. So every resource is a model before it is served: nothing unknown in it, and
every number in the range that Envoy checks, or that makes sense where Envoy does not check.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_serializer,
    model_validator,
)

UNLIMITED = 4_294_967_295  # the largest uint32: Envoy has no word for "no limit"

Duration = Annotated[str, StringConstraints(pattern=r"^(?:0|[1-9][0-9]{0,9})(?:\.[0-9]{1,9})?s$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Count = Annotated[int, Field(ge=0, le=UNLIMITED)]
Positive = Annotated[int, Field(ge=1, le=UNLIMITED)]
WholePercent = Annotated[int, Field(ge=0, le=100)]


class Message(BaseModel):
    """A message of Envoy's API: nothing unknown in it, nothing converted, nothing infinite."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    def wire(self) -> dict[str, Any]:
        """Return it as the JSON that Envoy reads; what is not set is left out."""
        return self.model_dump(mode="json", exclude_none=True)


class TypedMessage(Message):
    """A message that says on the wire what it is: a resource, or the configuration of a filter."""

    type_url: ClassVar[str]

    @model_serializer(mode="wrap")
    def _with_type(self, fields_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {"@type": self.type_url, **fields_of(self)}


AnyMessage = TypeVar("AnyMessage", bound=Message)


class Percent(Message):
    """A percentage with decimals."""

    value: float = Field(ge=0, le=100)


class FractionalPercent(Message):
    """Whole percent, as filters take them."""

    numerator: WholePercent
    denominator: Literal["HUNDRED"] = "HUNDRED"


class RuntimePercent(Message):
    """Percent that a runtime key may replace."""

    default_value: FractionalPercent
    runtime_key: Text | None = None


def percent(value: int, runtime_key: str | None = None) -> RuntimePercent:
    """Return so many percent, unless the runtime key says otherwise."""
    return RuntimePercent(default_value=FractionalPercent(numerator=value), runtime_key=runtime_key)


def seconds_of(duration: str) -> float:
    """Return a duration of the wire in seconds."""
    return float(duration.removesuffix("s"))


def exactly_one(message: AnyMessage, *names: str) -> AnyMessage:
    """Return the message.

    Raises:
        ValueError: not exactly one of the fields of these names is set.
    """
    given = [name for name in names if getattr(message, name) is not None]
    if len(given) != 1:
        raise ValueError(f"exactly one of {', '.join(names)} is set; here {len(given)} are")
    return message


# Which runtime keys are sent, and between which values. The name of a cluster may hold dots.
_CLUSTER = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_BREAKER = rf"circuit_breakers\.{_CLUSTER}\.default\."
_CRITICALITY = "(?:critical_plus|critical|sheddable_plus|sheddable)"
_NUMBERS: tuple[tuple[str, float, float], ...] = (
    (rf"tidegate\.shed\.{_CRITICALITY}", 0, 100),
    (r"fault\.http\.abort\.abort_percent", 0, 100),
    (r"fault\.http\.abort\.http_status", 200, 599),
    (r"local_ratelimit\.(?:enabled|enforced)", 0, 100),
    (_BREAKER + r"max_(?:connections|pending_requests|requests)", 1, UNLIMITED),
    (_BREAKER + r"retry_budget\.budget_percent", 0, 100),
    (_BREAKER + r"retry_budget\.min_retry_concurrency", 0, UNLIMITED),
    (rf"upstream\.maintenance_mode\.{_CLUSTER}", 0, 100),
    (rf"admission_control\.{_CLUSTER}\.sr_threshold", 1, 100),
    (rf"admission_control\.{_CLUSTER}\.rps_threshold", 0, UNLIMITED),
    (r"outlier_detection\.(?:interval|base_ejection_time|max_ejection_time)_ms", 1, UNLIMITED),
    (r"outlier_detection\.consecutive_5xx", 1, UNLIMITED),
    (r"outlier_detection\.failure_percentage_(?:minimum_hosts|request_volume)", 1, UNLIMITED),
    (r"outlier_detection\.failure_percentage_threshold", 1, 100),
    (r"outlier_detection\.max_ejection_percent", 0, 100),
    (r"outlier_detection\.enforcing_(?:consecutive_5xx|success_rate|failure_percentage)", 0, 100),
    (r"re2\.max_program_size\.error_level", 100, 1_000_000),
)
_COMPILED = tuple((re.compile(pattern), low, high) for pattern, low, high in _NUMBERS)
_FLAG = re.compile(rf"admission_control\.{_CLUSTER}\.enabled")


class Runtime(TypedMessage):
    """One resource of `:runtime`: a layer of runtime keys."""

    type_url: ClassVar[str] = "type.googleapis.com/envoy.service.runtime.v3.Runtime"

    name: Text
    layer: dict[Text, bool | int | float]

    @model_validator(mode="after")
    def _has_known_keys(self) -> Runtime:
        for key, value in self.layer.items():
            _check_runtime(key, value)
        return self


def _check_runtime(key: str, value: float) -> None:
    if _FLAG.fullmatch(key):
        if not isinstance(value, bool):
            raise ValueError(f"{key} is {value}; expected true or false")
        return
    for pattern, low, high in _COMPILED:
        if pattern.fullmatch(key):
            if isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{key} is {value}; expected a number from {low:g} to {high:g}")
            return
    raise ValueError(f"{key} is no runtime key that Tidegate sends")
