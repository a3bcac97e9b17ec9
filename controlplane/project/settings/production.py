"""Behind TLS, with secrets from files and no demo."""

from __future__ import annotations

from controlplane.kernel.logs import configure_logs
from controlplane.project.env import BadEnvironment, secret_key
from controlplane.project.settings.base import *  # noqa: F403
from controlplane.project.settings.base import TIDEGATE

if TIDEGATE.demo:
    raise BadEnvironment("TIDEGATE_DEMO is 1, but production settings never show demo logins")

SECRET_KEY = secret_key(TIDEGATE.secret_key_file, create=False)
TIDEGATE_SIGNING_SECRET = secret_key(
    TIDEGATE.signing_secret_file, create=False, variable="TIDEGATE_SIGNING_SECRET_FILE"
)
TIDEGATE_ALLOW_DEMO = False
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 31_536_000
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
configure_logs()
