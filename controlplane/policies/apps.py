"""Django app: What should be true of each service."""

from django.apps import AppConfig


class PoliciesConfig(AppConfig):
    """What should be true of each service."""

    name = "controlplane.policies"
    label = "policies"
    default_auto_field = "django.db.models.BigAutoField"
