"""The words of the OCI distribution and image specifications: values, grammar, errors."""
