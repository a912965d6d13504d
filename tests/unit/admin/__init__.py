"""Unit tests of mirrord/admin."""
