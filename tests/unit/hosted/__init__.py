"""Unit tests of mirrord/push."""
