"""Conflicts between tables that are valid by themselves.

The tables are checked as they are in the file, so that conflicts are reported along with errors in a table.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from mirrord.config.defaults import upstream_path
from mirrord.config.types import is_upstream_name


def conflicts(document: Mapping[str, Any], upstreams: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each conflict in a document; `upstreams` are the tables of all upstreams by path."""
    owners: dict[str, str] = {}
    for path, table in upstreams.items():
        prefix = table.get("prefix") if isinstance(table, dict) else None
        if isinstance(prefix, str) and owners.setdefault(prefix, path) != path:
            yield f"{path}.prefix: {prefix!r} is also the prefix of {owners[prefix]}"
    yield from _in_listeners(document.get("listen"), upstreams)
    yield from _in_hosted(document.get("hosted"), owners)


def _in_listeners(listeners: object, upstreams: Mapping[str, Any]) -> Iterator[str]:
    for index, listener in enumerate(listeners if isinstance(listeners, list) else []):
        upstream = listener.get("upstream") if isinstance(listener, dict) else None
        if (
            isinstance(upstream, str)
            and is_upstream_name(upstream)
            and upstream_path(upstream) not in upstreams
        ):
            yield f"listen[{index}].upstream: there is no upstream {upstream}"
    if listeners == []:
        yield "listen: at least one is needed"


def _in_hosted(hosted: object, owners: Mapping[str, str]) -> Iterator[str]:
    """Yield patterns of hosted names that begin with an upstream's prefix, since the prefix would win."""
    patterns = hosted.get("repositories") if isinstance(hosted, dict) else None
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        for prefix, path in owners.items():
            if isinstance(pattern, str) and _can_begin_with(f"{prefix}/", pattern):
                yield (
                    f"hosted.repositories[{index}]: {pattern!r} matches names that begin with {prefix}/, "
                    f"which is the prefix of {path}"
                )
                break


def _can_begin_with(start: str, pattern: str) -> bool:
    """Return whether the pattern matches names that begin so; `*` alone is meant to exclude them."""
    pieces = (pattern[:end] for end in range(1, len(pattern) + 1))
    return pattern != "*" and any(fnmatchcase(start, piece) for piece in pieces)
