"""Define objectives and keep their counts."""
