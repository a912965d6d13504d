"""The use cases of hosted repositories: what is pushed to us, and what we tell of it."""
