"""Unit tests of mirrord/hosted."""
