"""The Celery application: queues, limits and the beat schedule.

Everything here may be late or run twice; nothing a service needs waits for it.
"""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")

from django.conf import settings


def broker_url(redis_url: str) -> str:
    """Return TIDEGATE_REDIS_URL as Celery's broker takes it.

    The client of Valkey writes a socket `unix://:password@/path?db=1`; kombu knows it as
    `redis+socket://:password@/path?virtual_host=1`.
    """
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[-1]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


app = Celery("tidegate")
app.conf.update(
    broker_url=broker_url(settings.TIDEGATE.redis_url),
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "socket_connect_timeout": 1.0,
        "socket_timeout": 5.0,
        "visibility_timeout": 300,
    },
    task_ignore_result=True,
    task_acks_late=False,
    task_time_limit=60,
    task_soft_time_limit=45,
    task_always_eager=getattr(settings, "CELERY_TASK_ALWAYS_EAGER", False),
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    beat_schedule_filename=str(settings.TIDEGATE.state_dir / "celerybeat-schedule"),
    beat_max_loop_interval=1,
    timezone="UTC",
    beat_schedule={
        "collect the fleet's signals": {
            "task": "telemetry.collect_fleet",
            "schedule": float(settings.TIDEGATE.collect_interval_s),
            # A tick that waited longer than its interval is worth nothing: the next one is due.
            "options": {"expires": float(settings.TIDEGATE.collect_interval_s)},
        },
        "evaluate objectives": {
            "task": "slo.evaluate",
            "schedule": 30.0,
            "options": {"expires": 30.0},
        },
        "close expired overrides": {
            "task": "policies.close_expired_overrides",
            "schedule": 15.0,
            "options": {"expires": 15.0},
        },
        "close expired canaries": {
            "task": "policies.close_expired_canaries",
            "schedule": 15.0,
            "options": {"expires": 15.0},
        },
        "purge idempotency keys": {
            "task": "resilience.purge_idempotency_keys",
            "schedule": 3600.0,
            "options": {"expires": 3600.0},
        },
        "watch for rejected policies": {
            "task": "delivery.watch_rejections",
            "schedule": 5.0,
            "options": {"expires": 5.0},
        },
        "tell channels of alerts": {
            "task": "notifications.send_due_notices",
            "schedule": 5.0,
            "options": {"expires": 5.0},
        },
        "prune alerts": {
            "task": "notifications.prune_alerts",
            "schedule": 3600.0,
            "options": {"expires": 3600.0},
        },
        "prune silent instances": {
            "task": "delivery.prune_silent_instances",
            "schedule": 600.0,
            "options": {"expires": 600.0},
        },
    },
)
app.autodiscover_tasks()
