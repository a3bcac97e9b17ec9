"""Django app: Getting policies to instances, and knowing that they arrived."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    """Getting policies to instances, and knowing that they arrived."""

    name = "controlplane.delivery"
    label = "delivery"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Expose the figures of drift on this process's `/metrics`."""
        # Models may only be imported once the apps are loaded.
        from controlplane.delivery.services.watch import expose_drift_figures

        expose_drift_figures()
