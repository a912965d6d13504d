"""Garbage collection: which content is evicted, and when."""
