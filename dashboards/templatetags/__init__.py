"""Formatting: figures, durations, ages and links."""
