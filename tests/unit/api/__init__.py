"""Unit tests of mirrord/api."""
