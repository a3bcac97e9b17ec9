"""Who may do what, as plain values: roles, actors, tokens and the audit chain."""
