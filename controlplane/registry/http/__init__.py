"""The registry at the HTTP edge: which environment a request is about."""
