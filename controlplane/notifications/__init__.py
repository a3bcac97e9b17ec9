"""Telling others: alerts to Alertmanager and webhooks, deduplicated, at least once."""
