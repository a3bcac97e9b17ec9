"""Django app: Who may do what, and who did what."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    """Who may do what, and who did what."""

    name = "controlplane.access"
    label = "access"
    default_auto_field = "django.db.models.BigAutoField"
