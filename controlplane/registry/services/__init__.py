"""The only writers of the registry."""
