"""What going back to an older version would change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controlplane.policies.domain.diff import diff_effective
from controlplane.policies.domain.resolve import Layer, resolve
from controlplane.policies.selectors import (
    current_fleet_default,
    current_version,
    get_fleet_default,
    get_version,
    list_overrides_in_force,
    policy_layers,
)
from controlplane.registry.selectors import get_environment, get_service
from dashboards.presenters.values import ChangedField, changed_fields


@dataclass(frozen=True, slots=True)
class Rollback:
    """The page that asks before it rolls back."""

    what: str
    service: str
    current: int
    to: int
    next: int
    fields: tuple[ChangedField, ...]
    override_count: int
    back_url: str


def present_rollback(
    *, environment: str, service_slug: str, to: int, back_url: str, now: datetime
) -> Rollback:
    """Compare the effective policy with the one under version `to`.

    Raises:
        NotFound: no such service or version.
    """
    service = get_service(environment, service_slug)
    older = get_version(service, to)
    version = current_version(service)
    current = 0 if version is None else version.number
    layers = policy_layers(service, now)
    replaced = [
        Layer("version", f"v{to}", older.document) if layer.kind == "version" else layer
        for layer in layers
    ]
    overrides = list_overrides_in_force(environment, service_slug, now=now)
    return _rollback(
        service_slug, service_slug, current, to, layers, replaced, len(overrides), back_url
    )


def present_fleet_default_rollback(*, environment: str, to: int, back_url: str) -> Rollback:
    """Compare the fleet default with its version `to`.

    Raises:
        NotFound: no such environment or version.
    """
    found = get_environment(environment)
    older = get_fleet_default(found, to)
    present = current_fleet_default(found)
    current = 0 if present is None else present.number
    before: dict[str, Any] = {} if present is None else present.document
    layers = [Layer("fleet_default", f"fleet default v{current}", before)]
    replaced = [Layer("fleet_default", f"fleet default v{to}", older.document)]
    return _rollback("the fleet default", "", current, to, layers, replaced, 0, back_url)


def _rollback(
    what: str,
    service: str,
    current: int,
    to: int,
    before: list[Layer],
    after: list[Layer],
    override_count: int,
    back_url: str,
) -> Rollback:
    changes = diff_effective(resolve(before).policy, resolve(after).policy)
    return Rollback(
        what=what,
        service=service,
        current=current,
        to=to,
        next=current + 1,
        fields=changed_fields(changes),
        override_count=override_count,
        back_url=back_url,
    )
