"""Pulling manifests: by digest what never changes, by tag what may.

A tag is always resolved first (by HEAD, which Docker Hub does not count as a pull) and then read by
its digest. So a tag moves in one step, when the manifest that it now names is stored; and whoever
wants that manifest, by whatever tag or digest, shares one GET. Only where an upstream's HEAD does
not tell the digest is the tag itself read.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from mirrord.mirrored.freshness import FreshnessPolicy, FreshTag
from mirrord.mirrored.manifest_resolver import ManifestResolver
from mirrord.mirrored.ports import LinkIndex, ManifestFiles
from mirrord.mirrored.stale_if_error import StaleFallback, StaleIfError
from mirrord.oci.cache_status import CacheResult, CacheStatus, with_cache_status
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, UpstreamRefused
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag
from mirrord.repository import DescriptorResult, ManifestResult

T = TypeVar("T")


@attrs.frozen
class _CachedManifest:
    """The manifest that a tag named when it was last asked about, to be served if the upstream fails."""

    manifest: Manifest
    age_seconds: int
    ttl_seconds: int

    def is_still(self, sighting: TagObservation) -> bool:
        """Whether the tag names this manifest yet, by what was seen of it."""
        return self.manifest.digest == sighting.descriptor.digest

    def with_answer(self, answer: Callable[[CacheResult], T]) -> StaleFallback[T]:
        """It, as what stands in for an upstream that fails, with the answer that is then made of it."""
        return StaleFallback(self.age_seconds, self.ttl_seconds, answer)

    def as_manifest(self, outcome: CacheResult) -> ManifestResult:
        """The answer to a GET."""
        return ManifestResult(self.manifest, outcome)

    def as_descriptor(self, outcome: CacheResult) -> DescriptorResult:
        """The answer to a HEAD."""
        return DescriptorResult(self.manifest.descriptor, outcome)


@attrs.define(eq=False)
class MirroredManifests:
    """Answers GET and HEAD of manifests. `now` is the wall clock, in seconds."""

    _manifests: ManifestFiles
    _index: LinkIndex
    _names: ManifestResolver
    _freshness: Mapping[str, FreshnessPolicy]
    _stale_if_error: StaleIfError
    _now: Callable[[], float]

    @with_cache_status
    async def get(self, source: RepositoryKey, reference: Reference) -> ManifestResult:
        """The manifest that `reference` names, verified.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and nothing held may stand in.
        """
        if isinstance(reference, Tag):
            return await self._get_tag(source, reference)
        manifest = await self._read_linked(source, reference)
        if manifest is not None:
            return ManifestResult(manifest, CacheResult.hit())
        return await self._stale_if_error.patiently(self._get_digest(source, reference))

    @with_cache_status
    async def head(self, source: RepositoryKey, reference: Reference) -> DescriptorResult:
        """What `reference` names; fetches no manifest unless the upstream cannot say it otherwise.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and nothing held may stand in.
        """
        if isinstance(reference, Tag):
            return await self._head_tag(source, reference)
        manifest = await self._read_linked(source, reference)
        if manifest is not None:
            return DescriptorResult(manifest.descriptor, CacheResult.hit())
        return await self._stale_if_error.patiently(self._head_digest(source, reference))

    async def _get_tag(self, source: RepositoryKey, tag: Tag) -> ManifestResult:
        record, fresh = self._judge(source, tag)
        if fresh is not None:
            manifest = await self._read_linked(source, fresh.sighting.descriptor.digest)
            if manifest is not None:
                return ManifestResult(manifest, CacheResult.hit(fresh.ttl_seconds, fresh.age_seconds))
        known = None if fresh is None else fresh.sighting
        held = await self._held(source, record)
        return await self._stale_if_error.ask(
            source,
            None if held is None else held.with_answer(held.as_manifest),
            lambda: self._get_named(source, tag, known, held),
            given_up=lambda: self._names.stop_waiting(source, tag),
            of_manifests=fresh is not None,
        )

    async def _head_tag(self, source: RepositoryKey, tag: Tag) -> DescriptorResult:
        record, fresh = self._judge(source, tag)
        held = None
        if fresh is None or self._stale_if_error.is_failing(source):
            held = await self._held(source, record)
        if fresh is not None and (held is None or held.is_still(fresh.sighting)):
            outcome = CacheResult.hit(fresh.ttl_seconds, fresh.age_seconds)
            return DescriptorResult(fresh.sighting.descriptor, outcome)
        return await self._stale_if_error.ask(
            source,
            None if held is None else held.with_answer(held.as_descriptor),
            lambda: self._head_named(source, tag, held),
            given_up=lambda: self._names.stop_waiting(source, tag),
        )

    async def _get_named(
        self, source: RepositoryKey, tag: Tag, known: TagObservation | None, held: _CachedManifest | None
    ) -> ManifestResult:
        """The manifest of a tag: of what it is known to name, else of what the upstream says."""
        if known is not None:
            try:
                pulled = await self._get_digest(source, known.descriptor.digest)
            except ManifestUnknown:
                return await self._get_named(source, tag, None, held)
            return ManifestResult(pulled.manifest, _after(held, known, pulled.outcome))
        resolved = await self._names.resolve(source, tag, is_held=held is not None)
        try:
            pulled = await self._get_digest(source, resolved.sighting.descriptor.digest)
        except ManifestUnknown:
            raise UpstreamRefused("the upstream names a manifest that it does not have") from None
        is_hit = pulled.outcome.way is CacheStatus.HIT
        outcome = resolved.outcome if is_hit else pulled.outcome
        return ManifestResult(pulled.manifest, _after(held, resolved.sighting, outcome))

    async def _head_named(
        self, source: RepositoryKey, tag: Tag, held: _CachedManifest | None
    ) -> DescriptorResult:
        resolved = await self._names.resolve(source, tag, is_held=held is not None)
        outcome = _after(held, resolved.sighting, resolved.outcome)
        return DescriptorResult(resolved.sighting.descriptor, outcome)

    async def _get_digest(self, source: RepositoryKey, digest: Digest) -> ManifestResult:
        manifest = await self._manifests.read(digest)
        if manifest is not None:
            if self._index.link(source, digest) is not None:
                return ManifestResult(manifest, CacheResult.hit())
            if await self._names.confirm(source, digest) is not None:
                return ManifestResult(manifest, CacheResult.asked(200))
        return ManifestResult(*await self._names.fetch(source, digest))

    async def _head_digest(self, source: RepositoryKey, digest: Digest) -> DescriptorResult:
        descriptor = await self._names.confirm(source, digest)
        if descriptor is not None:
            return DescriptorResult(descriptor, CacheResult.asked(200))
        manifest, outcome = await self._names.fetch(source, digest)
        return DescriptorResult(manifest.descriptor, outcome)

    async def _read_linked(self, source: RepositoryKey, digest: Digest) -> Manifest | None:
        if self._index.link(source, digest) is None:
            return None
        return await self._manifests.read(digest)

    async def _held(self, source: RepositoryKey, record: TagRecord | None) -> _CachedManifest | None:
        fallback = self._freshness[source.upstream].fallback(record, self._now())
        if fallback is None:
            return None
        manifest = await self._read_linked(source, fallback.sighting.descriptor.digest)
        return (
            None
            if manifest is None
            else _CachedManifest(manifest, fallback.age_seconds, fallback.ttl_seconds)
        )

    def _judge(self, source: RepositoryKey, tag: Tag) -> tuple[TagRecord | None, FreshTag | None]:
        record = self._index.tag(source, tag)
        return record, self._freshness[source.upstream].judge(record, self._now())


def _after(held: _CachedManifest | None, sighting: TagObservation, outcome: CacheResult) -> CacheResult:
    """How the answer came about, seen by a client for whom `held` was too old."""
    if held is None:
        return outcome
    is_new = not held.is_still(sighting) and outcome.way in {CacheStatus.STORED, CacheStatus.COLLAPSED}
    return CacheResult.changed() if is_new else CacheResult.revalidated()
