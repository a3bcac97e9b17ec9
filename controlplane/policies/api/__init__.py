"""Policies over HTTP: shapes and addresses; meaning stays in the services."""
