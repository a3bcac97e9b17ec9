"""Bad documents are refused with the path and a sentence that says what would be right."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from controlplane.kernel.errors import InvalidInput, Problem
from controlplane.policies.domain.schema import json_schema
from controlplane.policies.domain.validate import validate_document, validate_patch
from tests.policies.domain.bad_values import BAD_VALUES
from tests.policies.domain.documents import at

IDS = [f"{path}={str(value)[:20]}" for path, value, _ in BAD_VALUES]


@pytest.mark.parametrize(("path", "value", "message"), BAD_VALUES, ids=IDS)
def test_a_bad_value_is_refused_and_says_why(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_document(at(path, value))

    assert caught.value.problems == (Problem(path, message),)
    assert caught.value.field == path
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [case for case in BAD_VALUES if case[1] is not None],
    ids=[name for name, case in zip(IDS, BAD_VALUES, strict=True) if case[1] is not None],
)
def test_an_override_refuses_what_a_document_refuses(path: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_patch(at(path, value))

    assert caught.value.problems == (Problem(path, message),)


@pytest.mark.parametrize(
    ("path", "value"),
    [case[:2] for case in BAD_VALUES if str(case[1]) not in ("nan", "inf")],
    ids=[name for name in IDS if not name.endswith(("=nan", "=inf"))],
)
def test_the_json_schema_refuses_it_too(path: str, value: Any) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())

    assert not validator.is_valid(at(path, value))


def test_every_problem_of_a_document_is_reported() -> None:
    document = {
        "inbound": {
            "deadline_ms": "250",
            "rate": {"per_s": -1, "mode": "of"},
            "endpoints": {"orders": {}, "POST /orders": {"criticality": "high"}},
        },
        "outbound": {"dependencies": {"payments": {"retry": {"max_attempts": True}}}},
        "lifecycle": {"drain": {"timeout": 5}},
        "inbuond": {},
    }

    with pytest.raises(InvalidInput) as caught:
        validate_document(document)

    assert [problem.path for problem in caught.value.problems] == [
        "inbound.deadline_ms",
        "inbound.rate.per_s",
        "inbound.rate.mode",
        "inbound.endpoints.orders",
        'inbound.endpoints["POST /orders"].criticality',
        "outbound.dependencies.payments.retry.max_attempts",
        "lifecycle.drain.timeout",
        "inbuond",
    ]
    assert str(caught.value).endswith("write 250 without quotes (and 7 more)")


def test_a_flood_of_problems_is_cut_and_counted() -> None:
    document = {"inbound": {f"field_{number}": 1 for number in range(150)}}

    with pytest.raises(InvalidInput) as caught:
        validate_document(document)

    assert len(caught.value.problems) == 101
    assert caught.value.problems[-1] == Problem("", "50 more problems are not listed")


@pytest.mark.parametrize(
    ("path", "entries", "message"),
    [
        (
            "inbound.endpoints",
            {f"GET /{number}": {} for number in range(201)},
            "201 endpoints: at most 200 are allowed",
        ),
        (
            "inbound.tenants.named",
            {f"t{number}": {"per_s": 1} for number in range(501)},
            "501 tenants: at most 500 are allowed",
        ),
        (
            "inbound.features",
            {f"f{number}": {} for number in range(101)},
            "101 features: at most 100 are allowed",
        ),
        (
            "outbound.dependencies",
            {f"d{number}": {} for number in range(101)},
            "101 dependencies: at most 100 are allowed",
        ),
        ("outbound.defaults.retry.on", ["503"] * 21, "21 items: at most 20 are allowed"),
    ],
    ids=["endpoints", "tenants", "features", "dependencies", "retry causes"],
)
def test_too_many_entries_are_refused(path: str, entries: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_document(at(path, entries))

    assert caught.value.problems == (Problem(path, message),)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "a policy is an object, not null"),
        ([], "a policy is an object, not a list"),
        ("{}", "a policy is an object, not text"),
        (3, "a policy is an object, not a number"),
        ({1: {}}, "a key must be text, not a number (1)"),
        ({"k" * 300: 1}, "a key of 300 characters: at most 256 are allowed"),
        (
            {"inbound": {"x": [0] * 30_000}},
            "too large: at most 20,000 values and 262,144 characters",
        ),
    ],
    ids=["null", "list", "text", "number", "number as key", "long key", "many values"],
)
def test_what_is_no_document_at_all_is_refused(document: Any, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_document(document)

    assert Problem("", message) in caught.value.problems


def test_a_python_value_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_document(at("inbound.deadline_ms", object()))

    assert caught.value.problems == (Problem("inbound.deadline_ms", "a Python object is not JSON"),)


def test_endless_nesting_is_refused() -> None:
    endless: dict[str, Any] = {}
    endless["inbound"] = endless

    with pytest.raises(InvalidInput, match="nested deeper than 16 levels"):
        validate_document(endless)


@pytest.mark.parametrize("patch", [{}, {"inbound": {}}, {"inbound": {"rate": {}}}], ids=str)
def test_an_override_that_changes_nothing_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="the patch changes nothing: set at least one field"):
        validate_patch(patch)


def test_an_override_cannot_delete_what_does_not_exist() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_patch({"inbound": {"dedline_ms": None, "endpoints": {"orders": None}}})

    assert {problem.path for problem in caught.value.problems} == {
        "inbound.dedline_ms",
        "inbound.endpoints.orders",
    }
