"""The bodies of OFREP as JSON Schema, after service/openapi.yaml of open-feature/protocol."""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator

METADATA = {
    "type": "object",
    "additionalProperties": {"type": ["boolean", "string", "number"]},
}
SUCCESS = {
    "type": "object",
    "properties": {
        "key": {"type": "string"},
        # Older providers know these reasons only.
        "reason": {"enum": ["STATIC", "TARGETING_MATCH", "SPLIT", "DISABLED", "UNKNOWN"]},
        "variant": {"type": "string"},
        "metadata": METADATA,
        "value": {"type": ["boolean", "string", "integer", "number", "object"]},
    },
    # The protocol asks for the value alone; the Python provider fails without the others.
    "required": ["key", "value", "reason", "variant"],
}
FAILURE = {
    "type": "object",
    "properties": {
        "key": {"type": "string"},
        "errorCode": {
            "enum": ["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL"]
        },
        "errorDetails": {"type": "string"},
    },
    "required": ["key", "errorCode", "errorDetails"],
}
NOT_FOUND = {
    **FAILURE,
    "properties": {**FAILURE["properties"], "errorCode": {"enum": ["FLAG_NOT_FOUND"]}},  # type: ignore[dict-item]
}
BULK_SUCCESS = {
    "type": "object",
    "properties": {"flags": {"type": "array", "items": {"oneOf": [SUCCESS, FAILURE]}}},
    "required": ["flags"],
}
BULK_FAILURE = {**FAILURE, "required": ["errorCode", "errorDetails"]}


def check(document: Any, schema: Any) -> None:
    """Hold a body against one of the schemas above."""
    Draft202012Validator(schema).validate(document)
