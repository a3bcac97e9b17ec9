"""Names that the processes of a benchmark agree on without telling each other."""

from __future__ import annotations

ENVIRONMENT = "prod"


def service_name(number: int) -> str:
    """Return the slug of a service of the benchmark's fleet."""
    return f"service-{number:05}"


def token_text(number: int, copy: int = 0) -> str:
    """Return the token of a service; one with very many instances has several."""
    return f"tgs_{number:05}{copy:038}"


def config_path(number: int) -> str:
    """Return the address of a service's policy."""
    return f"/config/v1/{ENVIRONMENT}/{service_name(number)}"
