"""A fleet of real processes on one machine, to see every failure mode without a cluster."""
