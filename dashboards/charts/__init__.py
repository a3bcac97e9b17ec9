"""Plotly figures as plain dicts, and inline SVG geometry."""
