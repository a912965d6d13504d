"""Figures, as people read them; and as programs do."""

import json
import time
from collections.abc import Mapping
from typing import Any

import click

_SPANS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def size(count: float) -> str:
    """Bytes, in the largest unit of which there is one: `29.8 MiB`."""
    for scale, unit in _SIZES:
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def count(number: int, noun: str) -> str:
    """`1 blob`, `12 blobs`, `3 entries`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def span(seconds: float) -> str:
    """A time that passes, in whole units of the largest that fits: `3 hours`."""
    for scale, unit in _SPANS:
        if seconds >= scale:
            return count(int(seconds / scale), unit)
    return "a moment"


def ago(when: float | None) -> str:
    """A time that has passed, from unix seconds."""
    return "never" if when is None else f"{span(time.time() - when)} ago"


def short(digest: str | None) -> str:
    """Enough of a digest to tell it from others."""
    return (digest or "").partition(":")[2][:12]


def freshness(tag: Mapping[str, Any]) -> str:
    """What may be done with a tag without asking its upstream."""
    if not tag.get("is_held", True):
        return "not held"
    if tag.get("fresh_until", 0) is None:
        return f"pushed {ago(tag.get('checked_at'))}"
    left = (tag.get("fresh_until") or 0) - time.time()
    return f"fresh for {span(left)}" if left > 0 else f"checked {ago(tag.get('checked_at'))}"


def say_json(document: Mapping[str, Any]) -> None:
    """A document for a script: one line, at once."""
    click.echo(json.dumps(document, ensure_ascii=False))
