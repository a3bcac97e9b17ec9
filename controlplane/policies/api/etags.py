"""ETags of policies in the operator API, and If-Match against lost updates (RFC 9110, 13.1.1)."""

from __future__ import annotations

import re
from datetime import datetime

from rest_framework.request import Request

from controlplane.kernel.errors import InvalidInput, PreconditionFailed
from controlplane.kernel.jsondoc import content_hash
from controlplane.policies.models import Canary
from controlplane.policies.selectors.sources import PolicySources

_TAG = re.compile(r'\s*((?:W/)?"[\x21\x23-\x7e]*")\s*(?:,|$)')


def version_etag(number: int) -> str:
    """Return the ETag of a version; number 0 stands for none yet."""
    return f'"v{number}"'


def policy_etag(number: int, policy: object) -> str:
    """Return the ETag of an effective policy: its version, and a hash of the whole."""
    return f'"v{number}-{content_hash(policy)[:16]}"'


def canary_etag(canary: Canary | None) -> str:
    """Return the ETag of a service's canary: which one it is, and how many it reaches."""
    return '"c0"' if canary is None else f'"c{canary.pk}-{canary.ratio!r}"'


def policy_etags(sources: PolicySources, now: datetime) -> tuple[str, str]:
    """Return the ETags of a service's policy now: of its version, and of what is in force."""
    number = sources.version_number
    return version_etag(number), policy_etag(number, sources.resolve_at(now).policy)


def check_if_match(request: Request, *etags: str) -> bool:
    """Return whether there was an If-Match, after it was found to hold.

    Args:
        etags: the present ETags, any of which will do. Weak ones never match.

    Raises:
        InvalidInput: the header is not a list of quoted ETags.
        PreconditionFailed: none of its ETags is current.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return False
    if header.strip() == "*" or set(_tags(header)) & set(etags):
        return True
    raise PreconditionFailed(
        f"If-Match {header} is not current; the ETag now is {etags[0]}: read again, then decide"
    )


def _tags(header: str) -> list[str]:
    tags: list[str] = []
    position = 0
    while position < len(header):
        match = _TAG.match(header, position)
        if match is None:
            raise InvalidInput('If-Match must be * or quoted ETags, such as "v7"', field="If-Match")
        tags.append(match[1])
        position = match.end()
    return tags
