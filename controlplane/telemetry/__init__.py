"""Reading the fleet's metrics."""
