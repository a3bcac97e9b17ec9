"""Why somebody changes something: asked for on every change, and kept."""

from __future__ import annotations

from controlplane.kernel.errors import InvalidInput

MAX_CHARACTERS = 500


def checked_reason(reason: str) -> str:
    """Return a reason without surrounding space.

    Raises:
        InvalidInput: it is empty, longer than 500 characters, or holds control characters.
    """
    text = reason.strip()
    if not 1 <= len(text) <= MAX_CHARACTERS:
        raise InvalidInput(
            f"reason must have 1 to {MAX_CHARACTERS} characters: say why, for whoever reads this "
            "at night",
            field="reason",
        )
    if not text.replace("\n", " ").isprintable():
        raise InvalidInput("reason must be plain text without control characters", field="reason")
    return text
