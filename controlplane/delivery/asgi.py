"""The ASGI application of a process that only delivers."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")

import django

django.setup()

from controlplane.delivery.build import build  # noqa: E402
from controlplane.delivery.process import DeliveryProcess, nothing_behind  # noqa: E402

plane, feed = build()
application = DeliveryProcess(plane=plane, feed=feed, behind=nothing_behind)
