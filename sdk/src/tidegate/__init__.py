"""Tidegate's service-side client: live policies for APIs that fail predictably.

`PolicyClient` follows the control plane, `TidegateMiddleware` protects what comes in,
`http_client` what goes out. `SyncPolicyClient`, `TidegateWsgiMiddleware` and `sync_http_client`
are the same for services in threads. Every limit is per instance: each process enforces it alone.
"""

from tidegate.breaker import Breaker, BreakerState, Permit, WindowCounts
from tidegate.budget import RetryBudget
from tidegate.calls import CallReport
from tidegate.client import PolicyClient
from tidegate.context import RequestContext, current_request, outgoing_headers
from tidegate.dependency import FixedPolicy, PolicySource
from tidegate.errors import (
    BreakerOpen,
    DeadlineExceeded,
    PolicyRejected,
    TidegateError,
    VerificationUnavailable,
)
from tidegate.guard import Guard
from tidegate.metrics import Metrics, metrics_asgi_app
from tidegate.middleware import TidegateMiddleware
from tidegate.policy import SAFE_DEFAULTS, Criticality, Policy, parse_policy
from tidegate.sync_client import SyncPolicyClient
from tidegate.sync_transport import SyncTidegateTransport, sync_http_client
from tidegate.transport import TidegateTransport, http_client
from tidegate.wsgi import TidegateWsgiMiddleware

__all__ = [
    "SAFE_DEFAULTS",
    "Breaker",
    "BreakerOpen",
    "BreakerState",
    "CallReport",
    "Criticality",
    "DeadlineExceeded",
    "FixedPolicy",
    "Guard",
    "Metrics",
    "Permit",
    "Policy",
    "PolicyClient",
    "PolicyRejected",
    "PolicySource",
    "RequestContext",
    "RetryBudget",
    "SyncPolicyClient",
    "SyncTidegateTransport",
    "TidegateError",
    "TidegateMiddleware",
    "TidegateTransport",
    "TidegateWsgiMiddleware",
    "VerificationUnavailable",
    "WindowCounts",
    "current_request",
    "http_client",
    "metrics_asgi_app",
    "outgoing_headers",
    "parse_policy",
    "sync_http_client",
]
