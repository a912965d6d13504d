"""The words of the specifications."""
