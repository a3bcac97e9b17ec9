"""Access over HTTP: who am I, the API description and its pages."""
