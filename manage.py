#!/usr/bin/env python
"""Django's command line; defaults to the dev settings and to a `make up` that runs here."""

import os
import sys
from pathlib import Path


def join_running_stack() -> None:
    """Take the addresses and secrets of a running `make up`, so that commands reach the same one.

    It writes them into its state directory while it runs; a variable already set wins.
    """
    state_dir = os.environ.get("TIDEGATE_STATE_DIR") or Path(__file__).parent / ".tidegate"
    try:
        lines = (Path(state_dir) / "environment").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, _, value = line.partition("=")
        os.environ.setdefault(name, value)


if __name__ == "__main__":
    if "DJANGO_SETTINGS_MODULE" not in os.environ:
        join_running_stack()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlplane.project.settings.dev")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
