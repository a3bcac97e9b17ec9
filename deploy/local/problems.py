"""What can go wrong while setting up, as one sentence with the way out."""

from __future__ import annotations


class SetupProblem(Exception):
    """Something this machine lacks; the text says what, and the one line that gets it."""
