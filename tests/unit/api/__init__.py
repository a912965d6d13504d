"""Unit tests of mirrord/web."""
