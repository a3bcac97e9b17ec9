"""Django app: How the control plane survives: idempotency, admission, request IDs."""

from django.apps import AppConfig


class ResilienceConfig(AppConfig):
    """How the control plane survives: idempotency, admission, request IDs."""

    name = "controlplane.resilience"
    label = "resilience"
    default_auto_field = "django.db.models.BigAutoField"
