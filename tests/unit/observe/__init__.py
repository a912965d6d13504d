"""Logs, metrics, health and systemd."""
