"""The operator's command, `mirrord`: one file a command, and what they share."""
