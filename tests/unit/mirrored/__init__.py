"""Unit tests of mirrord/mirrored."""
