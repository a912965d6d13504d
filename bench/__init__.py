"""Figures beside other mirrors: `python bench/speed.py`."""
