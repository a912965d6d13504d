"""Figures, as people read them; and as programs do."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

_SPANS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def format_size(count: float) -> str:
    """Bytes, in the largest unit of which there is one: `29.8 MiB`."""
    for scale, unit in _SIZES:
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def format_count(number: int, noun: str) -> str:
    """`1 blob`, `12 blobs`, `3 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def format_duration(seconds: float) -> str:
    """A time that passes, in whole units of the largest that fits: `3 hours`."""
    for scale, unit in _SPANS:
        if seconds >= scale:
            return format_count(int(seconds / scale), unit)
    return "a moment"


def format_age(when: float | None) -> str:
    """A time that has passed, from unix seconds."""
    return "never" if when is None else f"{format_duration(time.time() - when)} ago"


def short_digest(digest: str | None) -> str:
    """Enough of a digest to tell it from others."""
    return (digest or "").partition(":")[2][:12]


def format_freshness(tag: Mapping[str, Any]) -> str:
    """What may be done with a tag without asking its upstream."""
    if not tag.get("is_held", True):
        return "not held"
    if tag.get("fresh_until", 0) is None:
        return f"pushed {format_age(tag.get('checked_at'))}"
    left = (tag.get("fresh_until") or 0) - time.time()
    return (
        f"fresh for {format_duration(left)}" if left > 0 else f"checked {format_age(tag.get('checked_at'))}"
    )


def print_json(document: Mapping[str, Any]) -> None:
    """A document for a script: one line, at once."""
    click.echo(json.dumps(document, ensure_ascii=False))
