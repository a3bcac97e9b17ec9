"""What kinds of change there are, and what each is called."""

from __future__ import annotations

from controlplane.policies.selectors import Change

WORDS = {
    "override.opened": "override opened",
    "override.extended": "override extended",
    "override.reverted": "override reverted",
    "override.ended": "override ended",
    "version.published": "version published",
    "fleet_default.published": "fleet default published",
}


def change_words(change: Change) -> str:
    """ "override opened", "v42 published"; any other action with its dots and dashes spelt out."""
    if change.action == "version.published" and change.version_number:
        return f"v{change.version_number} published"
    if change.action == "fleet_default.published" and change.version_number:
        return f"fleet default v{change.version_number} published"
    return WORDS.get(change.action, change.action.replace(".", " ").replace("_", " "))


def cause_words(cause: str, version_number: int) -> str:
    """The same for the cause of a publication, which knows its version."""
    if cause == "version.published" and version_number:
        return f"v{version_number} published"
    return WORDS.get(cause, cause.replace(".", " ").replace("_", " "))
