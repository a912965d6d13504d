"""From TOML to one frozen `Config`, and the rules of what a reload may change."""
