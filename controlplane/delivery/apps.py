"""Django app: Getting policies to instances, and knowing that they arrived."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    """Getting policies to instances, and knowing that they arrived."""

    name = "controlplane.delivery"
    label = "delivery"
    default_auto_field = "django.db.models.BigAutoField"
