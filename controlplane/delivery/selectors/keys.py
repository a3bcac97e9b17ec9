"""Reads of signing keys."""

from __future__ import annotations

from django.db.models import Count, Max, Q

from controlplane.delivery.models import SigningKey


def list_signing_keys() -> list[SigningKey]:
    """Return every signing key, oldest first, withdrawn ones among them; one query."""
    return list(SigningKey.objects.order_by("id"))


def signing_keys_stamp() -> tuple[object, ...]:
    """Return a value that differs whenever what delivery reads of the keys may; one query.

    A key is only ever made or withdrawn; whatever else changes, changes along with that.
    """
    rows = SigningKey.objects.aggregate(
        count=Count("id"), withdrawn=Count("id", filter=~Q(withdrawn_at=None)), newest=Max("id")
    )
    return (rows["count"], rows["withdrawn"], rows["newest"])
