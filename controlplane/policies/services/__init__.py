"""The only writers of policies. Each is one transaction: rows, audit entry, publications."""

from controlplane.policies.services.canaries import (
    end_canary,
    promote_canary,
    start_canary,
    widen_canary,
)
from controlplane.policies.services.overrides import (
    extend_override,
    open_override,
    revert_override,
)
from controlplane.policies.services.publications import publishing
from controlplane.policies.services.publishing import (
    publish_fleet_default,
    publish_version,
    roll_back_fleet_default,
    roll_back_version,
)

__all__ = [
    "end_canary",
    "extend_override",
    "open_override",
    "promote_canary",
    "publish_fleet_default",
    "publish_version",
    "publishing",
    "revert_override",
    "roll_back_fleet_default",
    "roll_back_version",
    "start_canary",
    "widen_canary",
]
