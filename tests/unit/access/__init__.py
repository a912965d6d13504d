"""Unit tests of mirrord/access."""
