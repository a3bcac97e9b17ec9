from __future__ import annotations

import pytest

from tidegate.deadline import MAX_DEADLINE_MS, parse_deadline_ms
from tidegate.policy import Criticality
from tidegate.routes import RouteTable
from tidegate.shedding import is_shed, parse_criticality

KEYS = [
    "GET /products/{id}",
    "GET /products/featured",
    "GET /products/{id}/reviews/{review}",
    "POST /products/{id}",
    "GET /files/{rest:path}",
    "GET /files/{name}.json",
    "GET /",
]


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("GET", "/products/17", "GET /products/{id}"),
        ("POST", "/products/17", "POST /products/{id}"),
        ("GET", "/products/featured", "GET /products/featured"),
        ("GET", "/products/17/reviews/3", "GET /products/{id}/reviews/{review}"),
        ("GET", "/files/a/b/c", "GET /files/{rest:path}"),
        ("GET", "/files/a.json", "GET /files/{name}.json"),
        ("GET", "/files/axjson", "GET /files/{rest:path}"),
        ("GET", "/", "GET /"),
        ("GET", "/products/", None),
        ("GET", "/products/17/", "GET /products/{id}"),
        ("GET", "/products/17/reviews", None),
        ("DELETE", "/products/17", None),
        ("GET", "/PRODUCTS/17", None),
    ],
)
def test_a_path_finds_its_most_literal_template(method: str, path: str, key: str | None) -> None:
    assert RouteTable(KEYS).find(method, path) == key
    assert RouteTable(reversed(KEYS)).find(method, path) == key


@pytest.mark.parametrize(
    ("level", "shed"),
    [
        (0, set()),
        (1, {"sheddable"}),
        (2, {"sheddable", "sheddable_plus"}),
        (3, {"sheddable", "sheddable_plus", "critical"}),
    ],
)
def test_each_level_sheds_one_criticality_more(level: int, shed: set[str]) -> None:
    assert {member.value for member in Criticality if is_shed(level, member)} == shed


def test_a_criticality_header_is_read_in_any_case_and_nonsense_is_no_criticality() -> None:
    assert parse_criticality(b"Sheddable ") is Criticality.SHEDDABLE
    assert parse_criticality(b"vital") is None


@pytest.mark.parametrize(
    ("header", "remaining_ms"),
    [
        (b"1500", 1500.0),
        (b"0", 0.0),
        (b"-5", -5.0),
        (b"99999999999", MAX_DEADLINE_MS),
        (b"9" * 400, MAX_DEADLINE_MS),
        (b"-" + b"9" * 400, -MAX_DEADLINE_MS),
        (b"9" * 5000, None),  # more digits than Python reads
        (b"soon", None),
        (b"1.5", None),
        (b"", None),
    ],
)
def test_a_deadline_header_is_whole_milliseconds(header: bytes, remaining_ms: float | None) -> None:
    assert parse_deadline_ms(header) == remaining_ms
