"""Tests of mirrord.access."""
