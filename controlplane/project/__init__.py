"""Wiring: settings, URLs, processes; the only package that knows every other."""
