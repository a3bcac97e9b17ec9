"""Field-level changes as the audit log keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.policies.domain.diff import diff_effective


def change_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs between two complete policies, in document order, as JSON."""
    return [
        {
            "path": change.path,
            "before": change.before,
            "after": change.after,
            "kind": change.kind,
        }
        for change in diff_effective(before, after)
    ]
