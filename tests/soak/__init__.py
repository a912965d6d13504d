"""An hour of everything at once (docs/testing.md)."""
