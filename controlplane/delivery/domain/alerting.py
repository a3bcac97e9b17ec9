"""What a rejected policy says to the engineer who is woken by it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from controlplane.delivery.domain.drift import Rejection

ALERT_NAME = "TidegatePolicyRejected"
NAMED_INSTANCES = 10


def rejection_labels(rejection: Rejection, *, team: str) -> dict[str, str]:
    """Return what identifies the alert: environment, service, sequence and reason.

    The reason itself is free text of a client; its digest stands for it, so that labels stay
    short, and it can be read in the annotations.
    """
    labels = {
        "alertname": ALERT_NAME,
        "severity": "warning",
        "environment": rejection.environment,
        "service": rejection.service,
        "sequence": str(rejection.sequence),
        "reason_id": hashlib.sha256(rejection.reason.encode()).hexdigest()[:12],
    }
    return labels | ({"team": team} if team else {})


def rejection_annotations(rejection: Rejection, *, url: str, runbook_url: str) -> Mapping[str, str]:
    """Return what to know and do: how many, who, why, and where to look."""
    count = len(rejection.instances)
    named = ", ".join(rejection.instances[:NAMED_INSTANCES])
    more = count - NAMED_INSTANCES
    noun = "instances rejects" if count == 1 else "instances reject"
    annotations = {
        "summary": (
            f"{count} of {rejection.live} live {rejection.service} {noun} "
            f"policy #{rejection.sequence} in {rejection.environment}"
        ),
        "description": (
            "They keep the policy they had, so the change has not taken effect there. "
            f"They say: {rejection.reason or 'nothing'}. Correct the policy or roll it back; "
            "if the field is new, update the SDK of these instances first."
        ),
        "reason": rejection.reason,
        "instances": named + (f" and {more} more" if more > 0 else ""),
        "convergence_url": url,
    }
    return annotations | ({"runbook_url": runbook_url} if runbook_url else {})


def convergence_url(public_url: str, rejection: Rejection) -> str:
    """Return the page that shows the rejection: of the publication when the service has its own."""
    page = f"{rejection.sequence}/" if rejection.has_own_publication else ""
    return f"{public_url}/convergence/{page}?environment={rejection.environment}"
