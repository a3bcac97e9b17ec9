"""Reads of policies: what is in force, where it comes from, and how it came to be."""

from controlplane.policies.selectors.canaries import (
    CanaryRow,
    find_canary_in_force,
    get_canary,
    get_canary_in_force,
    list_canaries_in_force,
)
from controlplane.policies.selectors.effective import (
    OverrideRow,
    current_fleet_default,
    current_version,
    effective_policy,
    get_fleet_default,
    get_override,
    get_version,
    list_effective_policies,
    list_fleet_defaults,
    list_overrides_in_force,
    list_policy_layers,
    list_versions,
    policy_layers,
)
from controlplane.policies.selectors.history import Change, list_changes
from controlplane.policies.selectors.publications import (
    latest_canary_publication,
    latest_publication,
)

__all__ = [
    "CanaryRow",
    "Change",
    "OverrideRow",
    "current_fleet_default",
    "current_version",
    "effective_policy",
    "find_canary_in_force",
    "get_canary",
    "get_canary_in_force",
    "get_fleet_default",
    "get_override",
    "get_version",
    "latest_canary_publication",
    "latest_publication",
    "list_canaries_in_force",
    "list_changes",
    "list_effective_policies",
    "list_fleet_defaults",
    "list_overrides_in_force",
    "list_policy_layers",
    "list_versions",
    "policy_layers",
]
