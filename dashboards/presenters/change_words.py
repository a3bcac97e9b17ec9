"""What kinds of change there are, and what each is called."""

from __future__ import annotations

from controlplane.policies.selectors import Change
from dashboards.templatetags.figures import percent_exact

WORDS = {
    "override.opened": "override opened",
    "override.extended": "override extended",
    "override.reverted": "override reverted",
    "override.ended": "override ended",
    "version.published": "version published",
    "fleet_default.published": "fleet default published",
    "canary.started": "canary started",
    "canary.widened": "canary widened",
    "canary.promoted": "canary promoted",
    "canary.ended": "canary ended",
    "canary.expired": "canary ended, its time was up",
}

_REACHING = {"canary.started": "canary started on", "canary.widened": "canary widened to"}


def change_words(change: Change) -> str:
    """ "override opened", "v42 published"; any other action with its dots and dashes spelt out."""
    if change.action == "version.published" and change.version_number:
        return f"v{change.version_number} published"
    if change.action == "fleet_default.published" and change.version_number:
        return f"fleet default v{change.version_number} published"
    if change.action == "canary.promoted" and change.version_number:
        return f"canary promoted, v{change.version_number} published"
    if change.action in _REACHING and change.ratio is not None:
        return f"{_REACHING[change.action]} {percent_exact(change.ratio)} of the instances"
    return WORDS.get(change.action, change.action.replace(".", " ").replace("_", " "))


def cause_words(cause: str, version_number: int) -> str:
    """The same for the cause of a publication, which knows its version."""
    if cause == "version.published" and version_number:
        return f"v{version_number} published"
    return WORDS.get(cause, cause.replace(".", " ").replace("_", " "))
