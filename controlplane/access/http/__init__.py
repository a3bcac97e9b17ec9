"""Access at the HTTP edge: who asks, whether they may, and how refusals are told."""
