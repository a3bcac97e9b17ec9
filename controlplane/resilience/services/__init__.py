"""Idempotency keys: claim, answer, release, purge."""
