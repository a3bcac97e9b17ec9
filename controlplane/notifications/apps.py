"""Django app: Telling others what needs somebody."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Telling others what needs somebody."""

    name = "controlplane.notifications"
    label = "notifications"
    default_auto_field = "django.db.models.BigAutoField"
