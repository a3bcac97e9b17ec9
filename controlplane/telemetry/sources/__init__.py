"""Where signals come from: the port, Prometheus, and a fake for tests and screenshots."""
