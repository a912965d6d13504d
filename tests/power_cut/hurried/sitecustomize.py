"""Loaded by a daemon that has this folder in PYTHONPATH: its journal is compacted all the time."""

from mirrord.store import snapshots

snapshots.CHECK_SECONDS = snapshots.INTERVAL_SECONDS = 0.2
