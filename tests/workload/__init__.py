"""Random work on a daemon, and the model that decides what it must have kept; for tests that break things."""
