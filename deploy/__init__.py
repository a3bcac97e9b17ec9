"""Ways to run Tidegate."""
