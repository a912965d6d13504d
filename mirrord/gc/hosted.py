"""Sweeping hosted repositories: what nobody can find any more goes, and nothing else does.

First what the operator's rules thin out, then the blobs that no manifest names (any more), then the content
that no repository holds. Each step finds what the one before left, and each removal is checked again where
it is done: a sweep that was cut short, or that somebody pushed under, is only incomplete.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import run_in_slices, yield_to_reactor
from mirrord.gc.plan import GCLimits
from mirrord.gc.ports import CollectableHostedContent
from mirrord.gc.results import MAX_NAMED, EvictedContent, HostedSweepPreview, HostedSweepResult
from mirrord.gc.retention import RetentionRule, RetentionRules, plan_retention
from mirrord.oci.content import Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName

SLICE_MANIFESTS = 256
"""How many manifests one transaction removes: others wait for their own to be written."""

_REPOSITORIES_A_PAGE = 64
_SLICE_UPLOADS = 32


@attrs.define(eq=False)
class HostedSweeper:
    """Sweeps hosted repositories, as far as it is not stopped."""

    _shelf: CollectableHostedContent
    _clock: IReactorTime
    _is_stopped: bool = attrs.field(default=False, init=False)

    def stop(self) -> None:
        """End a running sweep with its slice."""
        self._is_stopped = True

    async def sweep(self, limits: GCLimits) -> HostedSweepResult:
        """Remove what is not needed.

        Raises:
            OSError: The disk failed.
        """
        uploads = await self._remove_uploads(limits.partials_seconds)
        tags, manifests = await self._thin_out(limits.retention)
        blobs = await self._unlink(limits.retention.grace_seconds)
        return HostedSweepResult(tags, manifests, blobs, uploads, await self._remove_unlinked())

    async def preview(self, limits: GCLimits) -> HostedSweepPreview:
        """What a sweep would remove now; nothing goes.

        Raises:
            OSError: The disk failed.
        """
        uploads = len(self._shelf.expired_uploads(limits.partials_seconds))
        tags = manifests = blobs = 0
        named: list[RetentionPlan] = []
        lone: list[tuple[RepositoryName, Digest]] = []
        for repository, rules in self._ruled(limits.retention):
            thinning = await self._plan(repository, rules)
            tags += len(thinning.tags)
            manifests += len(thinning.manifests)
            if thinning.tags or thinning.manifests:
                named += [thinning][: MAX_NAMED - len(named)]
        for page in self._shelf.unreferenced(limits.retention.grace_seconds):
            blobs += len(page)
            lone += page[: MAX_NAMED - len(lone)]
            await yield_to_reactor(self._clock)
        removed = EvictedContent()
        for entries in self._shelf.unlinked():
            removed += _sum(entries)
            await yield_to_reactor(self._clock)
        sweep = HostedSweepResult(tags, manifests, blobs, uploads, removed)
        return HostedSweepPreview(sweep, tuple(named), tuple(lone))

    async def _remove_uploads(self, idle_seconds: float) -> int:
        expired = iter(self._shelf.expired_uploads(idle_seconds))
        count = 0
        while (some := list(islice(expired, _SLICE_UPLOADS))) and not self._is_stopped:
            await self._shelf.remove_uploads(some)
            count += len(some)
        return count

    async def _thin_out(self, retention: RetentionRules) -> tuple[int, int]:
        tags = manifests = 0
        for repository, rules in self._ruled(retention):
            for portion in _portions(await self._plan(repository, rules)):
                if self._is_stopped:
                    return tags, manifests
                gone_tags, gone_manifests = await self._shelf.apply_plan(portion, retention.grace_seconds)
                tags, manifests = tags + gone_tags, manifests + gone_manifests
        return tags, manifests

    def _ruled(self, retention: RetentionRules) -> Iterator[tuple[RepositoryName, tuple[RetentionRule, ...]]]:
        """The repositories that there are rules for."""
        last = ""
        while retention.rules and (page := self._shelf.repositories(last, _REPOSITORIES_A_PAGE)):
            for repository in page:
                rules = retention.rules_for(repository)
                if rules:
                    yield repository, rules
            last = str(page[-1])

    async def _plan(self, repository: RepositoryName, rules: tuple[RetentionRule, ...]) -> RetentionPlan:
        manifests: dict[Digest, HostedManifest] = {}
        tags: list[HostedTag] = []
        for page in self._shelf.manifests(repository):
            manifests.update((manifest.digest, manifest) for manifest in page)
            await yield_to_reactor(self._clock)
        for some in self._shelf.tags(repository):
            tags += some
            await yield_to_reactor(self._clock)
        return await run_in_slices(self._clock, plan_retention(repository, manifests, tags, rules))

    async def _unlink(self, grace_seconds: float) -> int:
        count = 0
        for page in self._shelf.unreferenced(grace_seconds):
            if self._is_stopped:
                break
            if page:
                count += await self._shelf.unlink(page, grace_seconds)
            await yield_to_reactor(self._clock)
        return count

    async def _remove_unlinked(self) -> EvictedContent:
        removed = EvictedContent()
        for entries in self._shelf.unlinked():
            if self._is_stopped:
                break
            mirrored: set[str] = set()
            for names in self._shelf.mirrored(entries) if entries else ():
                mirrored |= names
                await yield_to_reactor(self._clock)
            self._shelf.mark_mirrored([entry for entry in entries if entry.name in mirrored])
            gone = await self._shelf.remove([entry for entry in entries if entry.name not in mirrored])
            removed += _sum(gone)
            await yield_to_reactor(self._clock)
        return removed


def _sum(entries: Iterable[Entry]) -> EvictedContent:
    sizes = [entry.size for entry in entries]
    return EvictedContent(len(sizes), sum(sizes))


def _portions(thinning: RetentionPlan) -> Iterator[RetentionPlan]:
    """The same, a transaction's worth at a time; the tags of a manifest go together with it."""
    tags_of: dict[Digest, list[HostedTag]] = {}
    for tag in thinning.tags:
        tags_of.setdefault(tag.digest, []).append(tag)
    manifests = iter(thinning.manifests)
    while some := tuple(islice(manifests, SLICE_MANIFESTS)):
        tags = tuple(tag for manifest in some for tag in tags_of.pop(manifest.digest, ()))
        yield RetentionPlan(thinning.repository, tags, some)
    rest = (tag for tags in tags_of.values() for tag in tags)
    while some_tags := tuple(islice(rest, SLICE_MANIFESTS)):
        yield RetentionPlan(thinning.repository, some_tags)
