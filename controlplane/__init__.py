"""Tidegate: the control plane."""
