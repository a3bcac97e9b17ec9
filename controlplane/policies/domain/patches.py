"""A patch that a person made of what is in force, as part of the document of a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.kernel.jsondoc import merge_patch
from controlplane.policies.domain.fields import DOCUMENT, Node, Section


def patched_document(document: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a version's document with `patch` in it; neither argument is changed.

    Unlike an RFC 7396 merge it keeps each null that means something in a document, "no limit" or
    "not the entry of the layer below": without it, the fleet default's value would come back.
    """
    return _patched(document, patch, DOCUMENT)


def _patched(document: object, patch: Mapping[str, Any], node: Node | None) -> dict[str, Any]:
    merged: dict[str, Any] = dict(document) if isinstance(document, Mapping) else {}
    for key, value in patch.items():
        child = node.child(key) if isinstance(node, Section) else None
        if isinstance(value, Mapping):
            merged[key] = _patched(merged.get(key), value, child)
        elif value is not None or (child is not None and child.is_nullable):
            merged[key] = merge_patch(None, value)  # a copy
        else:
            merged.pop(key, None)
    return merged
