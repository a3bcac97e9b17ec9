"""The ASGI application of the web process, wired from its parts."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402

from controlplane.delivery.build import build  # noqa: E402
from controlplane.delivery.process import DeliveryProcess  # noqa: E402
from controlplane.resilience.middleware.admission import AdmissionMiddleware  # noqa: E402
from controlplane.resilience.middleware.request_id import RequestIdMiddleware  # noqa: E402

plane, feed = build()
application = DeliveryProcess(
    plane=plane,
    feed=feed,
    behind=RequestIdMiddleware(
        AdmissionMiddleware(
            django_application, max_concurrent=settings.TIDEGATE.operator_concurrency
        )
    ),
)
