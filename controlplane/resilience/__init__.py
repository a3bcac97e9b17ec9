"""How the control plane survives: idempotency, admission, request IDs."""
