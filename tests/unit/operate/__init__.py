"""Tests of the operator's use cases."""
