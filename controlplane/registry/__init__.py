"""What exists: environments, services, endpoints, dependencies, instances."""
