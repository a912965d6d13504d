"""The operator's listener: metrics, health, status."""
