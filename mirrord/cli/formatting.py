"""Values formatted for people; and documents for programs."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

_DURATIONS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def format_size(size: float) -> str:
    """Format a number of bytes in the largest fitting unit: `29.8 MiB`."""
    for scale, unit in _SIZES:
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size:.0f} B"


def format_count(number: int, noun: str) -> str:
    """Format a number of things: `1 blob`, `12 blobs`, `3 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def format_duration(seconds: float) -> str:
    """Format a duration in whole numbers of the largest fitting unit: `3 hours`."""
    for scale, unit in _DURATIONS:
        if seconds >= scale:
            return format_count(int(seconds / scale), unit)
    return "less than a second"


def format_age(when: float | None) -> str:
    """Format how long ago a Unix time was."""
    if when is None:
        return "never"
    seconds = time.time() - when
    return "just now" if seconds < 1 else f"{format_duration(seconds)} ago"


def short_digest(digest: str | None) -> str:
    """Return the first twelve digits of a digest."""
    return (digest or "").partition(":")[2][:12]


def format_freshness(tag: Mapping[str, Any]) -> str:
    """Format how long a tag is served without revalidation, or when it was last checked or pushed."""
    if not tag.get("is_held", True):
        return "not cached"
    checked_at = tag.get("checked_at")
    if tag.get("fresh_until", 0) is None:
        return f"pushed {format_age(checked_at)}"
    left = (tag.get("fresh_until") or 0) - time.time()
    if left > 0:
        return f"fresh for {format_duration(left)}"
    return "never checked" if checked_at is None else f"checked {format_age(checked_at)}"


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document on one line and flush it."""
    click.echo(json.dumps(document, ensure_ascii=False))
