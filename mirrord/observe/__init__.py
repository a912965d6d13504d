"""Observability: logs, metrics, health checks, and notification of systemd."""
