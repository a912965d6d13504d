"""The use cases of the operator: what is held, and why; pulling it ahead, verifying it, taking it away."""
