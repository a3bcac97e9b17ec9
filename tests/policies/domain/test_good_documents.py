"""What a document may say is accepted as it was written; schema and validation agree."""

from __future__ import annotations

import copy
from typing import Any

import jsonschema
import pytest
from hypothesis import given

from controlplane.kernel.errors import InvalidInput
from controlplane.policies.domain.fields import list_fields
from controlplane.policies.domain.schema import EXAMPLE, builtin_policy, json_schema
from controlplane.policies.domain.validate import validate_document, validate_patch
from tests.policies.domain.documents import at, documents, patches

VALIDATOR = jsonschema.Draft202012Validator(json_schema())


@pytest.mark.parametrize(
    "document",
    [{}, {"inbound": {}}, EXAMPLE, builtin_policy()],
    ids=["{}", "empty", "example", "all"],
)
def test_a_good_document_comes_back_as_it_was_written(document: dict[str, Any]) -> None:
    before = copy.deepcopy(document)

    checked = validate_document(document)

    assert checked == document == before
    assert checked is not document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("inbound.deadline_ms", 1),
        ("inbound.deadline_ms", 600_000),
        ("inbound.rate.per_s", 0),
        ("inbound.rate.per_s", 0.25),
        ("inbound.tenants.default", None),
        ("inbound.tenants.named.acme", None),
        ('inbound.tenants.named["globex@eu:1"].per_s', 5),
        ('inbound.endpoints["GET /"]', None),
        ('inbound.endpoints["GET /"].rate', None),
        ('inbound.endpoints["GET /files/{name:path}"].deadline_ms', 5),
        ('inbound.endpoints["QUERY /größe/~a,b;c=d"]', {}),
        ("inbound.features.recommendations.off_at_level", None),
        ("outbound.dependencies.payments", None),
        ('outbound.dependencies["api.stripe.com"]', {}),
        ("outbound.defaults.retry.on", []),
        ("outbound.defaults.retry.budget.ratio", 1),
    ],
    ids=lambda value: str(value),
)
def test_the_edges_of_what_is_allowed(path: str, value: object) -> None:
    document = at(path, value)

    assert validate_document(document) == document
    assert VALIDATOR.is_valid(document)


def test_whole_floats_are_stored_as_integers() -> None:
    checked = validate_document(at("inbound.deadline_ms", 250.0))

    assert type(checked["inbound"]["deadline_ms"]) is int


@pytest.mark.parametrize(
    "path",
    [
        "inbound",
        "inbound.deadline_ms",
        "inbound.rate",
        "outbound.dependencies",
        "outbound.dependencies.payments.retry",
        "outbound.defaults.retry.on",
    ],
)
def test_an_override_may_delete_what_a_document_may_not(path: str) -> None:
    deletion = at(path, None)

    assert validate_patch(deletion) == deletion
    with pytest.raises(InvalidInput, match="leave it out to take the value of the layer below"):
        validate_document(deletion)


@pytest.mark.parametrize(
    "patch",
    [
        at("outbound.dependencies.payments", {}),
        at('inbound.endpoints["GET /"]', {}),
        at('inbound.endpoints["GET /"].concurrency', {}),
    ],
    ids=str,
)
def test_an_override_may_add_an_entry_that_takes_everything_from_below(patch: Any) -> None:
    assert validate_patch(patch) == patch


@given(documents())
def test_every_valid_document_is_accepted_and_fits_the_json_schema(document: Any) -> None:
    assert validate_document(document) == document
    assert VALIDATOR.is_valid(document)


@given(patches())
def test_every_patch_is_accepted_unless_it_changes_nothing(patch: Any) -> None:
    refusals = []
    try:
        assert validate_patch(patch) == patch
    except InvalidInput as refused:
        refusals.append(str(refused))

    assert refusals in ([], ["the patch changes nothing: set at least one field"])


def test_the_json_schema_is_2020_12_and_names_every_unit() -> None:
    schema = json_schema()

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert VALIDATOR.is_valid(schema["examples"][0])
    described = [
        (name, part)
        for block in [schema, *schema["$defs"].values()]
        for name, part in block["properties"].items()
    ]
    for name, part in described:
        numbers = [part, *part.get("anyOf", [])]
        if any(each.get("type") in ("integer", "number") for each in numbers):
            assert part["unit"], name
            assert part["examples"], name
            assert part["description"], name
    assert {field.unit for field in list_fields()} >= {"ms", "s", "requests/s", "ratio"}
