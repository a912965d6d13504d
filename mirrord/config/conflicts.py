"""Conflicts between tables that are valid by themselves.

The tables are checked as they are in the file, so that conflicts are reported along with errors in a table.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from mirrord.config.defaults import upstream_path
from mirrord.config.rule_pattern import RulePattern, can_overlap
from mirrord.config.types import is_rule_pattern, is_upstream_name
from mirrord.oci.names import HOSTED


def conflicts(document: Mapping[str, Any], upstreams: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each conflict in a document; `upstreams` are the tables of all upstreams by path."""
    owners: dict[str, str] = {}
    for path, table in upstreams.items():
        prefix = table.get("prefix") if isinstance(table, dict) else None
        if isinstance(prefix, str) and owners.setdefault(prefix, path) != path:
            yield f"{path}.prefix: {prefix!r} is also the prefix of {owners[prefix]}"
    yield from _in_listeners(document.get("listen"), upstreams)
    hosted = _patterns(document.get("hosted"))
    yield from _in_hosted(hosted, owners)
    yield from _in_rules(document.get("access"), hosted, owners, upstreams)


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


def _in_hosted(patterns: list[str], owners: Mapping[str, str]) -> Iterator[str]:
    """Yield patterns of hosted names that begin with an upstream's prefix, since the prefix would win.

    `*` alone is meant to exclude them.
    """
    for index, pattern in enumerate(patterns):
        for prefix, path in owners.items():
            if pattern != "*" and can_overlap(f"{prefix}/*", pattern):
                yield (
                    f"hosted.repositories[{index}]: {pattern!r} matches names that begin with {prefix}/, "
                    f"which is the prefix of {path}"
                )
                break


def _in_rules(
    access: object, hosted: list[str], owners: Mapping[str, str], upstreams: Mapping[str, Any]
) -> Iterator[str]:
    """Yield patterns of rules that match no repository; without any, rules that are never the first to match.

    The author of either expects it to have an effect, such as to protect a repository.
    """
    rules = access.get("rules") if isinstance(access, dict) else None
    names = {table["name"] for path, table in upstreams.items() if path == _path_of(table)}
    parsed = [
        [RulePattern.parse(text, names) for text in _patterns(rule)]
        for rule in (rules if isinstance(rules, list) else [])
    ]
    lines = [
        f"access.rules[{number}].repositories[{index}]: {pattern.names!r} matches no repository: {problem}"
        for number, patterns in enumerate(parsed)
        for index, pattern in enumerate(patterns)
        if (problem := _why_unmatched(pattern, hosted, owners)) is not None
    ]
    yield from lines or _without_effect(parsed)


def _why_unmatched(pattern: RulePattern, hosted: list[str], owners: Mapping[str, str]) -> str | None:
    """Return why a pattern matches no repository; None if it may match some, or is an error by itself."""
    if pattern.registry != HOSTED or not is_rule_pattern(pattern.names):
        return None
    prefix = pattern.names.partition("/")[0]
    if f"{prefix}/" in pattern.names and prefix in owners:
        return f"{prefix} is the prefix of {owners[prefix]}; rules name upstreams, not prefixes"
    if any(can_overlap(pattern.names, each) for each in hosted):
        return None
    return "it names no upstream, and [hosted] has no such repositories"


def _without_effect(rules: list[list[RulePattern]]) -> Iterator[str]:
    earlier: list[RulePattern] = []
    for number, patterns in enumerate(rules):
        if patterns and all(any(each.covers(pattern) for each in earlier) for pattern in patterns):
            yield f"access.rules: rules[{number}] has no effect: earlier rules match all that it does"
        earlier += patterns


def _path_of(table: object) -> str | None:
    name = table.get("name") if isinstance(table, dict) else None
    return upstream_path(name) if isinstance(name, str) else None


def _patterns(table: object) -> list[str]:
    """Return the `repositories` of a table; what is no pattern is an error of the table itself."""
    patterns = table.get("repositories") if isinstance(table, dict) else None
    return [str(each) for each in patterns] if isinstance(patterns, list) else []
