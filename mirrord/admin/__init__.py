"""The operator's listener: metrics, health, status and commands."""
