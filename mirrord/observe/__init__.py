"""What the daemon says of itself: metrics, logs, health."""
