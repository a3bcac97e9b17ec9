"""The only writers of access: audit, tokens, teams and memberships."""
