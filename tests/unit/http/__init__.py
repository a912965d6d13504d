"""Unit tests of mirrord/listen."""
