"""Django app: Objectives and error budgets."""

from django.apps import AppConfig


class SloConfig(AppConfig):
    """Objectives and error budgets."""

    name = "controlplane.slo"
    label = "slo"
    default_auto_field = "django.db.models.BigAutoField"
