"""Unit tests of mirrord/pull."""
