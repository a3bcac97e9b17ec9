"""The only writers of alerts."""
