"""The policies the demo starts with: sensible ones, and one on checkout that waits for a storm."""

from __future__ import annotations

from typing import Any

# Limits are per instance, as everywhere.
FLEET_DEFAULT: dict[str, Any] = {
    "inbound": {
        "deadline_ms": 3000,
        "concurrency": {"max": 100, "queue": {"max": 50, "timeout_ms": 100}},
        "rate": {"per_s": 200, "burst": 100},
    },
    "outbound": {
        "defaults": {
            "timeouts": {"connect_ms": 250, "attempt_ms": 1000},
            "retry": {"max_attempts": 2, "budget": {"ratio": 0.1, "min_per_s": 1}},
        }
    },
    # Short, so that Ctrl-C on `make up` is too.
    "lifecycle": {"drain": {"not_ready_s": 1, "timeout_s": 2}},
}

# What an Envoy does not take (docs/adapters/envoy.md) is left to the fleet default.
EDGE_POLICY: dict[str, Any] = {
    "inbound": {
        "deadline_ms": 5000,
        "concurrency": {"max": 200},
        "endpoints": {
            "GET /": {"criticality": "sheddable_plus"},
            "GET /search": {"criticality": "sheddable_plus"},
            "POST /orders": {"criticality": "critical_plus"},
        },
    },
    "outbound": {
        "dependencies": {
            # gateway does its own retries: from here only a connection that is not made is tried
            # again, at another instance.
            "gateway": {
                "timeouts": {"attempt_ms": 4500},
                "retry": {"max_attempts": 2, "on": ["connect_error"]},
                "breaker": {"failure_rate": 0.8},
            }
        }
    },
}

POLICIES: dict[str, dict[str, Any]] = {
    "gateway": {
        "inbound": {
            "rate": {"per_s": 60, "burst": 30},
            "tenants": {
                "default": {"per_s": 8, "burst": 16},
                "named": {
                    "acme": {"per_s": 12, "burst": 24},
                    "globex": {"per_s": 10, "burst": 20},
                },
            },
            "endpoints": {
                "GET /": {"criticality": "sheddable_plus"},
                "GET /search": {"criticality": "sheddable_plus"},
                "POST /orders": {"criticality": "critical_plus"},
            },
            "features": {"recommendations": {"enabled": True, "off_at_level": 1}},
        },
        "outbound": {
            "dependencies": {
                # The deadline decides here, and checkout does its own retries.
                "checkout": {
                    "timeouts": {"attempt_ms": 2500},
                    "retry": {"max_attempts": 1},
                    "breaker": {"failure_rate": 0.8},
                },
                "search": {"timeouts": {"attempt_ms": 600}},
                "catalog": {"timeouts": {"attempt_ms": 400}},
            }
        },
    },
    "checkout": {
        "inbound": {
            "concurrency": {"max": 60, "queue": {"max": 20, "timeout_ms": 100}},
            "tenants": {
                "default": {"per_s": 6, "burst": 12},
                "named": {"acme": {"per_s": 12, "burst": 24}},
            },
            "endpoints": {
                "POST /orders": {"criticality": "critical_plus"},
                "GET /cart": {"criticality": "sheddable_plus"},
            },
        },
        "outbound": {
            "dependencies": {
                "inventory": {"timeouts": {"attempt_ms": 250}},
                # Written by an optimist: short attempts, many of them, a budget that lets
                # retries double the load, and a breaker that hardly ever opens.
                # `incident start retry_storm` shows what it costs.
                "payments": {
                    "timeouts": {"attempt_ms": 300},
                    "retry": {
                        "max_attempts": 4,
                        "backoff": {"base_ms": 20, "multiplier": 2.0, "max_ms": 100},
                        "budget": {"ratio": 1.0, "min_per_s": 0, "window_s": 5},
                    },
                    "breaker": {"failure_rate": 0.95, "slow_call_ms": 300, "slow_call_rate": 1.0},
                },
            }
        },
    },
    "payments": {
        "inbound": {"concurrency": {"max": 50, "queue": {"max": 20, "timeout_ms": 50}}},
        "outbound": {
            "dependencies": {
                "fraud": {"timeouts": {"attempt_ms": 1500}, "retry": {"max_attempts": 1}},
                "ledger": {"timeouts": {"attempt_ms": 500}},
            }
        },
    },
    "inventory": {"inbound": {"rate": {"per_s": 80, "burst": 40}}},
    "fraud": {"inbound": {"concurrency": {"max": 40, "queue": {"max": 10, "timeout_ms": 50}}}},
    "ledger": {"inbound": {"concurrency": {"max": 40, "queue": {"max": 20, "timeout_ms": 100}}}},
    "search": {
        "inbound": {"concurrency": {"max": 40, "queue": {"max": 10, "timeout_ms": 50}}},
        "outbound": {"dependencies": {"catalog": {"timeouts": {"attempt_ms": 300}}}},
    },
    "catalog": {"inbound": {"rate": {"per_s": 150, "burst": 80}}},
}
