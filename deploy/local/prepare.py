"""Run management commands one after another in one process: starting Django is most of each.

`python -m deploy.local.prepare migrate seed_demo` stops at the first that fails.
"""

from __future__ import annotations

import os
import sys

import django
from django.core.management import CommandError, call_command

OPTIONS: dict[str, dict[str, object]] = {
    "migrate": {"verbosity": 0},
    "seed_demo": {},
    "collectstatic": {"interactive": False, "verbosity": 0},
}


def main(names: list[str]) -> int:
    """Run the commands; return the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")
    django.setup()
    for name in names:
        try:
            call_command(name, **OPTIONS[name])
        except CommandError as problem:
            print(f"{name}: {problem}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
