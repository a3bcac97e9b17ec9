"""What should be true of each service."""
