"""`manage.py incident` and `manage.py seed_demo`."""
