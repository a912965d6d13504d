"""Unit tests of mirrord/oci."""
