"""Sweeping hosted repositories: only what cannot be found any more is removed.

First come the tags and manifests that the operator's rules remove, then the blobs that no manifest names (any
more), then the content that no repository is linked to. Each step finds what the one before left, and each
removal is checked again where it is done: a sweep that was cut short, or that overlapped with a push, is only
incomplete.
"""

from collections.abc import Collection, Iterable, Iterator
from itertools import islice, takewhile
from typing import Self, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import cooperate, run_in_slices
from mirrord.gc.plan import GCLimits
from mirrord.gc.ports import CollectableHostedContent
from mirrord.gc.retention import RetentionRule, RetentionRules, plan_retention
from mirrord.oci.content import Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName

MAX_NAMED = 1000
"""How much of its content a preview lists, of each kind."""

MANIFESTS_PER_TRANSACTION = 256
"""Other writes wait for a transaction to end."""

_REPOSITORIES_PER_PAGE = 64
_UPLOADS_PER_SLICE = 32

T = TypeVar("T")


@attrs.frozen
class EvictedContent:
    """The number of evicted entries, and the bytes of the disk that they occupied."""

    count: int = 0
    size: int = 0

    @classmethod
    def of(cls, entries: Collection[Entry]) -> Self:
        """Return the number of entries and the sum of their sizes."""
        return cls(len(entries), sum(entry.size for entry in entries))

    def __add__(self, other: "EvictedContent") -> "EvictedContent":
        return EvictedContent(self.count + other.count, self.size + other.size)


@attrs.frozen(kw_only=True)
class HostedSweepResult:
    """Removed from hosted repositories: tags, manifests, blobs of single repositories, uploads.

    `removed` is content that no hosted or mirrored repository was linked to any more.
    """

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    uploads: int = 0
    removed: EvictedContent = EvictedContent()


@attrs.frozen
class HostedSweepPreview:
    """The content that would be removed from hosted repositories.

    `plans` are those of the first MAX_NAMED repositories, and `unreferenced` the first MAX_NAMED blobs that
    no manifest names. What only this removal would make removable is not counted, blobs of its manifests
    for instance.
    """

    result: HostedSweepResult = HostedSweepResult()
    plans: tuple[RetentionPlan, ...] = ()
    unreferenced: tuple[tuple[RepositoryName, Digest], ...] = ()


@attrs.define(eq=False)
class HostedSweeper:
    """Sweeps hosted repositories until it is stopped."""

    _store: CollectableHostedContent
    _clock: IReactorTime
    _is_stopped: bool = attrs.field(default=False, init=False)

    def stop(self) -> None:
        """End a running sweep after its current slice."""
        self._is_stopped = True

    async def sweep(self, limits: GCLimits) -> HostedSweepResult:
        """Remove what is not needed.

        Raises:
            OSError: The disk failed.
        """
        uploads = await self._remove_uploads(limits.partials_seconds)
        await self._store.remove_quarantined()
        tags, manifests = await self._apply_retention(limits.retention)
        blobs = await self._unlink(limits.retention.grace_seconds)
        removed = await self._remove_unlinked()
        return HostedSweepResult(
            tags=tags, manifests=manifests, blobs=blobs, uploads=uploads, removed=removed
        )

    async def preview(self, limits: GCLimits) -> HostedSweepPreview:
        """Return what a sweep would remove now, and remove nothing.

        Raises:
            OSError: The disk failed.
        """
        uploads = len(self._store.expired_uploads(limits.partials_seconds))
        tags = manifests = blobs = 0
        plans: list[RetentionPlan] = []
        unreferenced: list[tuple[RepositoryName, Digest]] = []
        for repository, rules in self._with_rules(limits.retention):
            plan = await self._plan(repository, rules)
            tags += len(plan.tags)
            manifests += len(plan.manifests)
            if plan.tags or plan.manifests:
                plans += [plan][: MAX_NAMED - len(plans)]
        async for page in cooperate(self._clock, self._store.unreferenced(limits.retention.grace_seconds)):
            blobs += len(page)
            unreferenced += page[: MAX_NAMED - len(unreferenced)]
        removed = EvictedContent()
        async for entries in cooperate(self._clock, self._store.unlinked()):
            removed += EvictedContent.of(entries)
        result = HostedSweepResult(
            tags=tags, manifests=manifests, blobs=blobs, uploads=uploads, removed=removed
        )
        return HostedSweepPreview(result, tuple(plans), tuple(unreferenced))

    async def _remove_uploads(self, idle_seconds: float) -> int:
        expired = iter(self._store.expired_uploads(idle_seconds))
        count = 0
        while (batch := list(islice(expired, _UPLOADS_PER_SLICE))) and not self._is_stopped:
            await self._store.remove_uploads(batch)
            count += len(batch)
        return count

    async def _apply_retention(self, retention: RetentionRules) -> tuple[int, int]:
        tags = manifests = 0
        for repository, rules in self._with_rules(retention):
            for portion in _portions(await self._plan(repository, rules)):
                if self._is_stopped:
                    return tags, manifests
                removed_tags, removed_manifests = await self._store.apply_plan(
                    portion, retention.grace_seconds
                )
                tags, manifests = tags + removed_tags, manifests + removed_manifests
        return tags, manifests

    def _with_rules(
        self, retention: RetentionRules
    ) -> Iterator[tuple[RepositoryName, tuple[RetentionRule, ...]]]:
        """Iterate over the repositories that there are rules for."""
        last = ""
        while retention.rules and (page := self._store.repositories(last, _REPOSITORIES_PER_PAGE)):
            for repository in page:
                rules = retention.rules_for(repository)
                if rules:
                    yield repository, rules
            last = str(page[-1])

    async def _plan(self, repository: RepositoryName, rules: tuple[RetentionRule, ...]) -> RetentionPlan:
        manifests: dict[Digest, HostedManifest] = {}
        tags: list[HostedTag] = []
        async for page in cooperate(self._clock, self._store.manifests(repository)):
            manifests.update((manifest.digest, manifest) for manifest in page)
        async for some_tags in cooperate(self._clock, self._store.tags(repository)):
            tags += some_tags
        return await run_in_slices(self._clock, plan_retention(repository, manifests, tags, rules))

    async def _unlink(self, grace_seconds: float) -> int:
        count = 0
        pages = self._until_stopped(self._store.unreferenced(grace_seconds))
        async for page in cooperate(self._clock, pages):
            if page:
                count += await self._store.unlink(page, grace_seconds)
        return count

    async def _remove_unlinked(self) -> EvictedContent:
        removed = EvictedContent()
        async for entries in cooperate(self._clock, self._until_stopped(self._store.unlinked())):
            mirrored: set[str] = set()
            async for names in cooperate(self._clock, self._store.mirrored(entries) if entries else ()):
                mirrored |= names
            used = [entry for entry in entries if entry.name in mirrored]
            unused = [entry for entry in entries if entry.name not in mirrored]
            unused += await self._store.return_to_cache(used)
            removed += EvictedContent.of(await self._store.remove(unused))
        return removed

    def _until_stopped(self, pages: Iterable[T]) -> Iterator[T]:
        return takewhile(lambda _: not self._is_stopped, pages)


def _portions(plan: RetentionPlan) -> Iterator[RetentionPlan]:
    """Split a plan into transactions; the tags of a manifest are removed together with it."""
    tags_of: dict[Digest, list[HostedTag]] = {}
    for tag in plan.tags:
        tags_of.setdefault(tag.digest, []).append(tag)
    manifests = iter(plan.manifests)
    while batch := tuple(islice(manifests, MANIFESTS_PER_TRANSACTION)):
        tags = tuple(tag for manifest in batch for tag in tags_of.pop(manifest.digest, ()))
        yield RetentionPlan(repository=plan.repository, tags=tags, manifests=batch)
    remaining = (tag for tags in tags_of.values() for tag in tags)
    while some_tags := tuple(islice(remaining, MANIFESTS_PER_TRANSACTION)):
        yield RetentionPlan(repository=plan.repository, tags=some_tags)
