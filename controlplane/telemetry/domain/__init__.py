"""What the fleet's metrics mean: pure, no I/O."""
