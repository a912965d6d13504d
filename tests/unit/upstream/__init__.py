"""Tests of mirrord/upstream."""
