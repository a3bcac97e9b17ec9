"""Reads of policies: publications, effective policies and their history."""
