"""Idempotency at the HTTP edge."""
