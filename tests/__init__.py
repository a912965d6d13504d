"""Tests of mirrord."""
