"""The operator's command `mirrord`: one module per command, and what they share."""
