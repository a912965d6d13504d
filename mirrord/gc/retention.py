"""Retention of hosted content: the operator's rules, applied. Pure: no disk, no clock.

The first rule whose `tags` match decides about a tag. The tag is removed if it is not among the `newest` of
those that the rule decides about, and is older than `older_than`; a condition that is not given is met. A
manifest is removed with its last tag. One that never had a tag, or lost it otherwise, is removed when it has
been `untagged_for` long enough.

What depends on something that stays, stays: the manifests of an index, and what refers to a manifest as its
subject, signatures for instance. A client that does not know the referrers API attaches them by a tag made of
the subject's digest; such a tag is no version of anything, and is removed with its subject. What depends only
on what is removed is removed with it, whatever its age, because it could not be found any more.
"""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import TypeVar

import attrs

from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.graph import edges_of, reachable_only_from
from mirrord.oci.names import RepositoryName, Tag

STEPS_PER_SLICE = 256

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class RetentionRule:
    """A rule for some repositories and tags, given as shell patterns; durations are in seconds.

    `number` is its index among all rules.
    """

    repositories: tuple[str, ...] = ("*",)
    untagged_for: float | None = None
    newest: int | None = None
    tags: str = "*"
    older_than: float | None = None
    number: int = 0


@attrs.frozen
class RetentionRules:
    """All rules, and how long a blob is kept that no manifest names."""

    grace_seconds: float = 3600.0
    rules: tuple[RetentionRule, ...] = ()

    def rules_for(self, repository: RepositoryName) -> tuple[RetentionRule, ...]:
        """Return the rules for a repository; without any, all of it is kept."""
        name = str(repository)
        return tuple(
            rule for rule in self.rules if any(fnmatchcase(name, pattern) for pattern in rule.repositories)
        )


def plan_retention(
    repository: RepositoryName,
    manifests: Mapping[Digest, HostedManifest],
    tags: Sequence[HostedTag],
    rules: Sequence[RetentionRule],
) -> Generator[None, None, RetentionPlan]:
    """Return what to remove from a repository with these manifests and tags; yield between slices.

    A manifest follows those that name it and its subject, except around a cycle: a removal that is cut short
    leaves no manifest that lacks a part.
    """
    edges, versions = yield from _edges(manifests, tags)
    outdated = yield from _outdated(versions, rules)
    kept = {tag.digest for tag in versions if tag.tag not in outdated}
    yield
    due = {
        tag.digest: outdated[tag.tag]
        for tag in versions
        if tag.tag in outdated and tag.digest in manifests and tag.digest not in kept
    }
    tagged = {tag.digest for tag in tags}
    for batch in _batches(manifests.values()):
        for manifest in batch:
            number = None if manifest.digest in tagged else _rule_against(manifest, rules)
            if number is not None:
                due[manifest.digest] = number
        yield
    removable = yield from reachable_only_from(due, manifests, edges, keep=kept)
    removed = {digest: manifests[digest] for digest in removable if digest in manifests}
    yield
    removed_tags = (tag for tag in tags if tag.tag in outdated or tag.digest in removed)
    numbers: dict[Tag | Digest, int] = {}
    numbers.update(outdated.items())
    numbers.update((digest, number) for digest, number in due.items() if digest in removed)
    return RetentionPlan(
        repository=repository, tags=tuple(removed_tags), manifests=tuple(removed.values()), rules=numbers
    )


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, STEPS_PER_SLICE)):
        yield batch


def _edges(
    manifests: Mapping[Digest, HostedManifest], tags: Iterable[HostedTag]
) -> Generator[None, None, tuple[dict[Digest, list[Digest]], list[HostedTag]]]:
    """Return the edges between the manifests, also by referrers tags, and the tags that are versions."""
    edges = yield from edges_of(manifests.values())
    subjects: dict[str, Digest] = {}
    for batch in _batches(manifests):
        subjects.update((_referrers_tag(digest), digest) for digest in batch)
        yield
    versions: list[HostedTag] = []
    for some_tags in _batches(tags):
        for tag in some_tags:
            subject = subjects.get(str(tag.tag).partition(".")[0])
            if subject is None:
                versions.append(tag)
            else:
                edges[subject].append(tag.digest)
        yield
    return edges, versions


def _referrers_tag(subject: Digest) -> str:
    """Return the tag of the specification's "Referrers Tag Schema"; cosign appends `.sig` or `.att`."""
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"


def _outdated(
    versions: Sequence[HostedTag], rules: Iterable[RetentionRule]
) -> Generator[None, None, dict[Tag, int]]:
    """Return the tags that rules remove, each with the number of the rule that decided."""
    outdated: dict[Tag, int] = {}
    undecided = sorted(versions, key=lambda tag: (tag.age_seconds, tag.tag.name))
    for rule in rules:
        if rule.newest is None and rule.older_than is None:
            continue
        decided: list[HostedTag] = []
        unmatched: list[HostedTag] = []
        for batch in _batches(undecided):
            for tag in batch:
                (decided if fnmatchcase(tag.tag.name, rule.tags) else unmatched).append(tag)
            yield
        undecided = unmatched
        oldest = decided[rule.newest or 0 :]
        outdated.update(
            (tag.tag, rule.number) for tag in oldest if tag.age_seconds >= (rule.older_than or 0.0)
        )
    return outdated


def _rule_against(manifest: HostedManifest, rules: Iterable[RetentionRule]) -> int | None:
    """Return the number of the first rule for untagged manifests if it removes this one."""
    for rule in rules:
        if rule.untagged_for is not None:
            return rule.number if manifest.idle_seconds >= rule.untagged_for else None
    return None
