"""Pure concurrency: Deferreds and numbers, no file, socket or clock."""
