"""One machine: `make up` and everything a developer runs by hand."""

from __future__ import annotations

from controlplane.kernel.logs import configure_logs
from controlplane.project.env import secret_key
from controlplane.project.settings.base import *  # noqa: F403
from controlplane.project.settings.base import TIDEGATE

SECRET_KEY = secret_key(TIDEGATE.secret_key_file, create=True)
TIDEGATE_SIGNING_SECRET = secret_key(
    TIDEGATE.signing_secret_file, create=True, variable="TIDEGATE_SIGNING_SECRET_FILE"
)
# DEBUG stays off, so that error pages are the ones users will see. This flag is what lets the
# demo seed create its well-known passwords; production settings never set it.
TIDEGATE_ALLOW_DEMO = True
configure_logs()
