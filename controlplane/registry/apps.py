"""Django app: What exists: environments, services, endpoints, dependencies, instances."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """What exists: environments, services, endpoints, dependencies, instances."""

    name = "controlplane.registry"
    label = "registry"
    default_auto_field = "django.db.models.BigAutoField"
