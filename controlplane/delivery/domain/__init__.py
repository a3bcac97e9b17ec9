"""Pure rules of delivery: snapshots, their schedule, entity tags."""
