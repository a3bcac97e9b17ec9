"""One machine: `make up` and everything a developer runs by hand."""

from __future__ import annotations

import os
from pathlib import Path

from controlplane.kernel.logs import configure_logs
from controlplane.project.env import secret_key
from controlplane.project.settings.base import *  # noqa: F403
from controlplane.project.settings.base import TIDEGATE

SECRET_KEY = secret_key(
    Path(os.environ.get("TIDEGATE_SECRET_KEY_FILE") or TIDEGATE.state_dir / "secret_key"),
    create=True,
)
# DEBUG stays off, so that error pages are the ones users will see. This flag is what lets the
# demo seed create its well-known passwords; production settings never set it.
TIDEGATE_ALLOW_DEMO = True
configure_logs()
