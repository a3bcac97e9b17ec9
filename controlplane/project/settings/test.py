"""The unit suite: no servers, an SQLite file of its own, tasks run in line."""

from __future__ import annotations

import os
import tempfile
from typing import cast

os.environ.setdefault("TIDEGATE_STATE_DIR", tempfile.mkdtemp(prefix="tidegate-test-"))
os.environ.setdefault("TIDEGATE_RATE_WINDOW_S", "60")

from controlplane.project.settings.base import *  # noqa: F403
from controlplane.project.settings.base import DATABASES, STATIC_ROOT, TIDEGATE

SECRET_KEY = "test-only-key-that-signs-nothing-outside-the-test-run-000000000000"  # noqa: S105
TIDEGATE_SIGNING_SECRET = "test-only-secret-that-seals-nothing-outside-the-test-run-0000"  # noqa: S105
TIDEGATE_ALLOW_DEMO = True
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
CELERY_TASK_ALWAYS_EAGER = True
_OPTIONS = cast("dict[str, object]", DATABASES["default"]["OPTIONS"])
if TIDEGATE.database_url.startswith("sqlite"):
    # A file, not memory: threads of one test lock it as the processes of a real installation do.
    DATABASES["default"]["TEST"] = {"NAME": str(TIDEGATE.state_dir / "test.sqlite3")}
    # A busy machine is no reason for a writer to give up; a test that hangs is ended by pytest.
    DATABASES["default"]["OPTIONS"] = {**_OPTIONS, "timeout": 60}
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # WhiteNoise warns when it is missing
