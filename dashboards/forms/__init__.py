"""The shape of what people submit; what it means stays in `policies.domain`."""
