"""System calls of the daemon that fail, hang or are its last (docs/testing.md)."""
