from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.policies.domain.patches import patched_document
from controlplane.policies.domain.validate import validate_document

LIMIT = {"per_s": 5, "burst": 5}


def named(**tenants: Any) -> dict[str, Any]:
    return {"inbound": {"tenants": {"named": tenants}}}


@pytest.mark.parametrize(
    ("document", "patch", "expected"),
    [
        ({}, named(acme=None), named(acme=None)),
        (named(acme=LIMIT), named(acme=None), named(acme=None)),
        (named(acme=None), named(acme=LIMIT), named(acme=LIMIT)),
        (named(acme=None), named(globex=LIMIT), named(acme=None, globex=LIMIT)),
        (
            {"inbound": {"tenants": {"default": LIMIT}}},
            {"inbound": {"tenants": {"default": None}}},
            {"inbound": {"tenants": {"default": None}}},
        ),
        (
            {"inbound": {"deadline_ms": 900, "rate": {"per_s": 5}}},
            {"inbound": {"deadline_ms": None}},
            {"inbound": {"rate": {"per_s": 5}}},
        ),
        (
            {"inbound": {"deadline_ms": 900}},
            {"inbound": {"rate": {"per_s": 7}}},
            {"inbound": {"deadline_ms": 900, "rate": {"per_s": 7}}},
        ),
    ],
    ids=["absent", "set", "set again", "another", "default", "a field", "beside"],
)
def test_a_null_stays_in_a_document_where_it_means_something(
    document: dict[str, Any], patch: dict[str, Any], expected: dict[str, Any]
) -> None:
    before = copy.deepcopy((document, patch))

    patched = patched_document(document, patch)

    assert patched == expected
    assert validate_document(patched) == expected
    assert (document, patch) == before
