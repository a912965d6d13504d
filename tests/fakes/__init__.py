"""Fakes with behaviour, for unit and integration tests alike."""
