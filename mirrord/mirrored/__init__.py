"""The use cases of pulling, and the ports through which they reach disk and network."""
