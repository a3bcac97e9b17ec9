"""Where alerts go: guarded HTTP."""
