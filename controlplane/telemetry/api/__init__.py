"""Telemetry over HTTP: the fleet as it was last measured."""
