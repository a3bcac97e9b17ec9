"""Pure ASGI middleware of the web process."""
