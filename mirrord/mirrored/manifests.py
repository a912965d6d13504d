"""Manifests of mirrored repositories: by digest, which never changes, and by tag, which may.

A tag is always resolved first (by HEAD, which Docker Hub does not count as a pull) and then read by its
digest. So a tag moves in one step, when the manifest that it now names is stored, and all clients that want
that manifest, by whatever tag or digest, share one GET. The tag itself is read only if an upstream's HEAD
does not return a digest.
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
class _CachedTag:
    """The cached manifest of a tag, to be served if the upstream fails."""

    manifest: Manifest
    age_seconds: int
    ttl_seconds: int

    def is_named_by(self, observation: TagObservation) -> bool:
        """Return whether the tag still names this manifest."""
        return self.manifest.digest == observation.descriptor.digest

    def fallback(self, result: Callable[[CacheResult], T]) -> StaleFallback[T]:
        """Return a fallback for an upstream that fails, with the result that is then returned."""
        return StaleFallback(self.age_seconds, self.ttl_seconds, result)

    def manifest_result(self, cache: CacheResult) -> ManifestResult:
        """Return the result of a GET."""
        return ManifestResult(self.manifest, cache)

    def descriptor_result(self, cache: CacheResult) -> DescriptorResult:
        """Return the result of a HEAD."""
        return DescriptorResult(self.manifest.descriptor, cache)


@attrs.define(eq=False, kw_only=True)
class MirroredManifests:
    """Serves GET and HEAD of manifests. `now` is the wall clock, in seconds."""

    _manifests: ManifestFiles
    _index: LinkIndex
    _resolver: ManifestResolver
    _freshness: Mapping[str, FreshnessPolicy]
    _stale_if_error: StaleIfError
    _now: Callable[[], float]

    @with_cache_status()
    async def get(self, key: RepositoryKey, reference: Reference) -> ManifestResult:
        """Return the manifest that `reference` names, verified.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream refused it.
            UpstreamError: The upstream failed, and nothing cached may stand in.
        """
        if isinstance(reference, Tag):
            return await self._get_tag(key, reference)
        manifest = await self._read_linked(key, reference)
        if manifest is not None:
            return ManifestResult(manifest, CacheResult.hit())
        return await self._stale_if_error.wait(self._get_digest(key, reference))

    @with_cache_status()
    async def head(self, key: RepositoryKey, reference: Reference) -> DescriptorResult:
        """Return the descriptor of what `reference` names; fetches a manifest only if HEAD does not suffice.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream refused it.
            UpstreamError: The upstream failed, and nothing cached may stand in.
        """
        if isinstance(reference, Tag):
            return await self._head_tag(key, reference)
        manifest = await self._read_linked(key, reference)
        if manifest is not None:
            return DescriptorResult(manifest.descriptor, CacheResult.hit())
        return await self._stale_if_error.wait(self._head_digest(key, reference))

    async def _get_tag(self, key: RepositoryKey, tag: Tag) -> ManifestResult:
        record, fresh = self._look_up(key, tag)
        if fresh is not None:
            manifest = await self._read_linked(key, fresh.observation.descriptor.digest)
            if manifest is not None:
                return ManifestResult(manifest, CacheResult.hit(fresh.ttl_seconds, fresh.age_seconds))
        known = None if fresh is None else fresh.observation
        cached = await self._cached(key, record)
        return await self._stale_if_error.request(
            key,
            None if cached is None else cached.fallback(cached.manifest_result),
            lambda: self._get_resolved(key, tag, known, cached),
            abandon=lambda: self._resolver.abandon(key, tag),
            of_manifests=fresh is not None,
        )

    async def _head_tag(self, key: RepositoryKey, tag: Tag) -> DescriptorResult:
        record, fresh = self._look_up(key, tag)
        cached = None
        if fresh is None or self._stale_if_error.is_degraded(key):
            cached = await self._cached(key, record)
        if fresh is not None and (cached is None or cached.is_named_by(fresh.observation)):
            cache = CacheResult.hit(fresh.ttl_seconds, fresh.age_seconds)
            return DescriptorResult(fresh.observation.descriptor, cache)
        return await self._stale_if_error.request(
            key,
            None if cached is None else cached.fallback(cached.descriptor_result),
            lambda: self._head_resolved(key, tag, cached),
            abandon=lambda: self._resolver.abandon(key, tag),
        )

    async def _get_resolved(
        self, key: RepositoryKey, tag: Tag, known: TagObservation | None, cached: _CachedTag | None
    ) -> ManifestResult:
        """Return the manifest of a tag: of what it is known to name, or else of what the upstream reports."""
        if known is not None:
            try:
                result = await self._get_digest(key, known.descriptor.digest)
            except ManifestUnknown:
                return await self._get_resolved(key, tag, None, cached)
            return ManifestResult(result.manifest, _revalidation(cached, known, result.cache))
        resolved = await self._resolver.resolve(key, tag, is_cached=cached is not None)
        try:
            result = await self._get_digest(key, resolved.observation.descriptor.digest)
        except ManifestUnknown:
            raise UpstreamRefused("the upstream names a manifest that it does not have") from None
        cache = resolved.cache if result.cache.status is CacheStatus.HIT else result.cache
        return ManifestResult(result.manifest, _revalidation(cached, resolved.observation, cache))

    async def _head_resolved(
        self, key: RepositoryKey, tag: Tag, cached: _CachedTag | None
    ) -> DescriptorResult:
        resolved = await self._resolver.resolve(key, tag, is_cached=cached is not None)
        cache = _revalidation(cached, resolved.observation, resolved.cache)
        return DescriptorResult(resolved.observation.descriptor, cache)

    async def _get_digest(self, key: RepositoryKey, digest: Digest) -> ManifestResult:
        manifest = await self._manifests.read(digest)
        if manifest is not None:
            if self._index.link(key, digest) is not None:
                return ManifestResult(manifest, CacheResult.hit())
            if await self._resolver.confirm(key, digest) is not None:
                return ManifestResult(manifest, CacheResult.forwarded(200))
        return ManifestResult(*await self._resolver.fetch(key, digest))

    async def _head_digest(self, key: RepositoryKey, digest: Digest) -> DescriptorResult:
        descriptor = await self._resolver.confirm(key, digest)
        if descriptor is not None:
            return DescriptorResult(descriptor, CacheResult.forwarded(200))
        manifest, cache = await self._resolver.fetch(key, digest)
        return DescriptorResult(manifest.descriptor, cache)

    async def _read_linked(self, key: RepositoryKey, digest: Digest) -> Manifest | None:
        if self._index.link(key, digest) is None:
            return None
        return await self._manifests.read(digest)

    async def _cached(self, key: RepositoryKey, record: TagRecord | None) -> _CachedTag | None:
        stale = self._freshness[key.upstream].stale(record, self._now())
        if stale is None:
            return None
        manifest = await self._read_linked(key, stale.observation.descriptor.digest)
        return None if manifest is None else _CachedTag(manifest, stale.age_seconds, stale.ttl_seconds)

    def _look_up(self, key: RepositoryKey, tag: Tag) -> tuple[TagRecord | None, FreshTag | None]:
        record = self._index.tag(key, tag)
        return record, self._freshness[key.upstream].fresh(record, self._now())


def _revalidation(cached: _CachedTag | None, observation: TagObservation, cache: CacheResult) -> CacheResult:
    """Return how a response came about for a client whose cached manifest was too old."""
    if cached is None:
        return cache
    is_new = not cached.is_named_by(observation) and cache.status in {
        CacheStatus.STORED,
        CacheStatus.COLLAPSED,
    }
    return CacheResult.changed() if is_new else CacheResult.revalidated()
