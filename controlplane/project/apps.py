"""Django app: Wiring: settings, URLs, processes; the only package that knows every other."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Wiring: settings, URLs, processes; the only package that knows every other."""

    name = "controlplane.project"
    label = "project"
    default_auto_field = "django.db.models.BigAutoField"
