"""The values of the OCI distribution and image specifications, their grammar, and errors."""
