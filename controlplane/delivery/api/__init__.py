"""Delivery over HTTP: instances, and how far a publication has spread."""
