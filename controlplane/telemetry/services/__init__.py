"""Reading the fleet: the collector, and ranges for charts."""
