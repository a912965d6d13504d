"""Unit tests of mirrord/flight."""
