"""What of a hosted repository is worth keeping: the operator's rules, applied. Pure: no disk, no clock.

The first rule whose `tags` match decides about a tag. It goes if it is not among the `newest` of those that
the rule decides about, and is older than `older_than`; a condition that is not given is met. With its last
tag a manifest goes too. One that never had a tag, or lost it otherwise, goes when it was `untagged_for`.

What hangs on something that stays, stays: what an index names, and what refers to a manifest as its
subject, signatures for instance. A client that knows no referrers API hangs them on by a tag made of the
subject's digest; such a tag is no version of anything, and goes with its subject. What hangs only on what
goes, goes with it, however young, for nobody could find it any more.
"""

from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from typing import TypeVar

import attrs

from mirrord.oci.content import HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag

STEPS_A_SLICE = 256

Slices = Generator[None, None, RetentionPlan]

T = TypeVar("T")


@attrs.frozen
class RetentionRule:
    """Which repositories and tags it is for, as shell patterns, and what may go, in seconds.

    `number` is its place among all rules.
    """

    repositories: tuple[str, ...] = ("*",)
    untagged_for: float | None = None
    newest: int | None = None
    tags: str = "*"
    older_than: float | None = None
    number: int = 0

    def is_for(self, repository: RepositoryName) -> bool:
        """Whether it is for this repository."""
        return any(fnmatchcase(str(repository), pattern) for pattern in self.repositories)


@attrs.frozen
class RetentionRules:
    """How long hosted content stays: blobs that no manifest names for `grace_seconds`, others by rules."""

    grace_seconds: float = 3600.0
    rules: tuple[RetentionRule, ...] = ()

    def rules_for(self, repository: RepositoryName) -> tuple[RetentionRule, ...]:
        """The rules for a repository; none: all of it stays."""
        return tuple(rule for rule in self.rules if rule.is_for(repository))


def plan_retention(
    repository: RepositoryName,
    manifests: Mapping[Digest, HostedManifest],
    tags: Sequence[HostedTag],
    rules: Sequence[RetentionRule],
) -> Slices:
    """What goes of a repository of which this is all; a small slice of the work an item.

    Manifests come after those that name them and after their subject, where that can be: what is cut short
    leaves nothing that lacks a part.
    """
    hanging, versions = yield from _hanging(manifests, tags)
    outdated = yield from _outdated(versions, rules)
    staying = {tag.digest for tag in versions if tag.tag not in outdated}
    yield
    due = {
        tag.digest: outdated[tag.tag]
        for tag in versions
        if tag.tag in outdated and tag.digest in manifests and tag.digest not in staying
    }
    tagged = {tag.digest for tag in tags}
    for some in _batches(manifests.values()):
        for one in some:
            number = None if one.digest in tagged else _rule_against(one, rules)
            if number is not None:
                due[one.digest] = number
        yield
    doomed = yield from _reach(due, hanging, staying)
    saved = set((yield from _reach(manifests.keys() - set(doomed), hanging, frozenset())))
    gone = {digest: manifests[digest] for digest in doomed if digest not in saved}
    yield
    going_tags = (tag for tag in tags if tag.tag in outdated or tag.digest in gone)
    numbers: dict[Tag | Digest, int] = {}
    numbers.update(outdated.items())
    numbers.update((digest, number) for digest, number in due.items() if digest in gone)
    return RetentionPlan(repository, tuple(going_tags), tuple(gone.values()), numbers)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    """All of `items`, a slice's work an item."""
    left = iter(items)
    while some := list(islice(left, STEPS_A_SLICE)):
        yield some


def _hanging(
    manifests: Mapping[Digest, HostedManifest], tags: Iterable[HostedTag]
) -> Generator[None, None, tuple[dict[Digest, list[Digest]], list[HostedTag]]]:
    """What hangs on each manifest, and the tags that are versions."""
    hanging: dict[Digest, list[Digest]] = {}
    versions: list[HostedTag] = []
    subjects: dict[str, Digest] = {}
    for some in _batches(manifests.values()):
        for manifest in some:
            hanging.setdefault(manifest.digest, []).extend(manifest.children)
            if manifest.subject is not None:
                hanging.setdefault(manifest.subject, []).append(manifest.digest)
            subjects[_referrers_tag(manifest.digest)] = manifest.digest
        yield
    for some_tags in _batches(tags):
        for tag in some_tags:
            subject = subjects.get(str(tag.tag).partition(".")[0])
            if subject is None:
                versions.append(tag)
            else:
                hanging[subject].append(tag.digest)
        yield
    return hanging, versions


def _referrers_tag(subject: Digest) -> str:
    """The tag of the specification's "Referrers Tag Schema"; cosign adds what it is (`.sig`, `.att`)."""
    return f"{subject.algorithm[:32]}-{subject.encoded[:64]}"


def _outdated(
    versions: Sequence[HostedTag], rules: Iterable[RetentionRule]
) -> Generator[None, None, dict[Tag, int]]:
    """The tags that go by the rule that decides about them, and that rule's number."""
    outdated: dict[Tag, int] = {}
    left = sorted(versions, key=lambda tag: (tag.age_seconds, tag.tag.name))
    for rule in rules:
        if rule.newest is None and rule.older_than is None:
            continue
        decided: list[HostedTag] = []
        others: list[HostedTag] = []
        for some in _batches(left):
            for tag in some:
                (decided if fnmatchcase(tag.tag.name, rule.tags) else others).append(tag)
            yield
        left = others
        oldest = decided[rule.newest or 0 :]
        outdated.update(
            (tag.tag, rule.number) for tag in oldest if tag.age_seconds >= (rule.older_than or 0.0)
        )
    return outdated


def _rule_against(manifest: HostedManifest, rules: Iterable[RetentionRule]) -> int | None:
    """The number of the first rule that speaks of untagged manifests, if it lets this one go."""
    for rule in rules:
        if rule.untagged_for is not None:
            return rule.number if manifest.idle_seconds >= rule.untagged_for else None
    return None


def _reach(
    roots: Iterable[Digest], hanging: Mapping[Digest, Sequence[Digest]], without: Container[Digest]
) -> Generator[None, None, list[Digest]]:
    """The roots and all that hangs on them, but for what is, or hangs only on, something of `without`.

    What hangs on something comes after it.
    """
    found: list[Digest] = []
    seen: set[Digest] = set()
    steps = 0
    waiting = [(digest, False) for digest in roots]
    while waiting:
        digest, is_done = waiting.pop()
        if is_done:
            found.append(digest)
        elif digest not in seen and digest not in without:
            seen.add(digest)
            waiting.append((digest, True))
            waiting += [(each, False) for each in hanging.get(digest, ())]
        steps += 1
        if steps % STEPS_A_SLICE == 0:
            yield
    return found[::-1]
