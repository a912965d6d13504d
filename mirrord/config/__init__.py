"""The configuration: its types, schema, defaults, checks and reload rules."""
