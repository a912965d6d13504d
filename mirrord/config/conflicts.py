"""Conflicts: what is wrong between tables that are right, each by itself.

They are read as they stand in the file, so that they are told beside the errors within a table.
"""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from mirrord.config.defaults import path_of
from mirrord.config.types import is_name


def conflicts(document: Mapping[str, Any], upstreams: Mapping[str, Any]) -> Iterator[str]:
    """A line for each conflict of a document; `upstreams` are the tables of all of them, by their paths."""
    owners: dict[str, str] = {}
    for path, table in upstreams.items():
        prefix = table.get("prefix") if isinstance(table, dict) else None
        if isinstance(prefix, str) and owners.setdefault(prefix, path) != path:
            yield f"{path}.prefix: {prefix!r} is also the prefix of {owners[prefix]}"
    yield from _of_listeners(document.get("listen"), upstreams)
    yield from _of_hosted(document.get("hosted"), owners)


def _of_listeners(listeners: object, upstreams: Mapping[str, Any]) -> Iterator[str]:
    for index, listener in enumerate(listeners if isinstance(listeners, list) else []):
        upstream = listener.get("upstream") if isinstance(listener, dict) else None
        if isinstance(upstream, str) and is_name(upstream) and path_of(upstream) not in upstreams:
            yield f"listen[{index}].upstream: no upstream is called {upstream}"
    if listeners == []:
        yield "listen: at least one is needed"


def _of_hosted(hosted: object, owners: Mapping[str, str]) -> Iterator[str]:
    """A name that is hosted by its pattern and an upstream's by its prefix would be the upstream's."""
    patterns = hosted.get("repositories") if isinstance(hosted, dict) else None
    for index, pattern in enumerate(patterns if isinstance(patterns, list) else []):
        for prefix, path in owners.items():
            if isinstance(pattern, str) and _can_begin_with(f"{prefix}/", pattern):
                yield (
                    f"hosted.repositories[{index}]: {pattern!r} can mean names that begin with {prefix}/, "
                    f"which is the prefix of {path}"
                )
                break


def _can_begin_with(start: str, pattern: str) -> bool:
    """Whether the pattern matches names that begin so; `*` alone is meant to leave those out."""
    pieces = (pattern[:end] for end in range(1, len(pattern) + 1))
    return pattern != "*" and any(fnmatchcase(start, piece) for piece in pieces)
