"""Tidegate's service-side client."""
