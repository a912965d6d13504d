"""Fuzzers of everything that parses what others send, with a corpus that is kept (docs/testing.md)."""
