"""The same publications in others' words: pure mappings from a policy to another protocol."""
