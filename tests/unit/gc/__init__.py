"""Garbage collection: the plan, and the collector on a shelf of fakes."""
