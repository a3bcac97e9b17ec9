"""Who runs which publication, who drifts, and how long a publication took to spread."""

from controlplane.delivery.selectors.drift import (
    FleetDrift,
    Reporting,
    fleet_drift,
    list_rejections,
    read_reporting,
)
from controlplane.delivery.selectors.instances import (
    InstanceRow,
    convergence,
    convergence_many,
    fleet_convergence,
    list_instances,
)
from controlplane.delivery.selectors.keys import (
    SigningKeyRow,
    get_signing_key,
    list_announced_keys,
    list_signing_keys,
    signing_keys_stamp,
)
from controlplane.delivery.selectors.propagation import (
    SETTLED,
    PublicationRow,
    PublicationSpread,
    follow_publication,
    list_recent_publications,
)

__all__ = [
    "SETTLED",
    "FleetDrift",
    "InstanceRow",
    "PublicationRow",
    "PublicationSpread",
    "Reporting",
    "SigningKeyRow",
    "convergence",
    "convergence_many",
    "fleet_convergence",
    "fleet_drift",
    "follow_publication",
    "get_signing_key",
    "list_announced_keys",
    "list_instances",
    "list_recent_publications",
    "list_rejections",
    "list_signing_keys",
    "read_reporting",
    "signing_keys_stamp",
]
