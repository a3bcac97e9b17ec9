"""The policy document and what can be said about it: pure, no framework, no I/O."""
