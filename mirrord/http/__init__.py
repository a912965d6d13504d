"""What a connection is before it is a registry's."""
