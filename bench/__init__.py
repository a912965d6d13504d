"""Benchmarks against other mirrors and registries: `python bench/speed.py`."""
