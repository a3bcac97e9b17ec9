"""The ASGI application of the web process, wired from its parts."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")

from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

from django.conf import settings  # noqa: E402

from controlplane.delivery.asgi import build  # noqa: E402
from controlplane.project.dispatch import WebProcess  # noqa: E402
from controlplane.resilience.middleware.admission import AdmissionMiddleware  # noqa: E402
from controlplane.resilience.middleware.request_id import RequestIdMiddleware  # noqa: E402

config_app, feed = build()
application = WebProcess(
    config_app=config_app,
    feed=feed,
    operator_app=RequestIdMiddleware(
        AdmissionMiddleware(
            django_application, max_concurrent=settings.TIDEGATE.operator_concurrency
        )
    ),
)
