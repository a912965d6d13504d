"""Tests of `mirrord.cli`."""
