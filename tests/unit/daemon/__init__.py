"""The configuration, its words and what is opened for it."""
