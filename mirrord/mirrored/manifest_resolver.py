"""ManifestResolver: what tags name at their upstream, and which manifests a repository may read.

All requests that resolve or fetch manifests are sent here, and everything learned from their responses is
recorded here: what a tag names, which links are confirmed, what does not exist. Requests are shared
(flight/single.py) and not tied to a client: a response that arrives after its client has disconnected is
recorded all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import attrs

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.confirmation import LinkConfirmation
from mirrord.mirrored.ports import LinkIndex, Upstream
from mirrord.mirrored.reference_confirmation import ReferenceConfirmation
from mirrord.mirrored.size_hints import SizeHints
from mirrord.mirrored.timeouts import REQUEST_SECONDS
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.content import TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag

_ATTEMPTS_UNCACHED = 3
_ABSENT_DIGEST_SECONDS = 5.0
"""A digest that does not exist may be pushed at any moment, and is then requested at once."""


@attrs.frozen
class ResolvedTag:
    """The digest that a tag names, and how it was learned; its manifest may have been stored on the way."""

    observation: TagObservation
    cache: CacheResult


@attrs.define(eq=False, kw_only=True)
class ManifestResolver:
    """Requests tags and digests from upstreams, and records the responses. `now` is the wall clock."""

    _upstreams: Mapping[str, Upstream]
    _index: LinkIndex
    _writer: CacheWriter
    _confirmation: LinkConfirmation
    _references: ReferenceConfirmation
    _hints: SizeHints
    _now: Callable[[], float]
    _negative_ttl: float
    _absent: AgedCache[tuple[RepositoryKey, Reference], ManifestUnknown | NameUnknown]
    _resolving: SingleFlight[tuple[RepositoryKey, Tag], ResolvedTag] = attrs.field(
        factory=SingleFlight, init=False
    )
    _fetching: SingleFlight[tuple[RepositoryKey, Digest], tuple[Manifest, bool]] = attrs.field(
        factory=SingleFlight, init=False
    )

    async def resolve(self, key: RepositoryKey, tag: Tag, *, is_cached: bool) -> ResolvedTag:
        """Return what a tag names; without retries if a cached manifest can stand in."""
        self._raise_if_absent(key, tag)
        attempts = 1 if is_cached else _ATTEMPTS_UNCACHED
        return await self._resolving.run((key, tag), lambda: self._resolve(key, tag, attempts))

    def abandon(self, key: RepositoryKey, tag: Tag) -> None:
        """Let the next `resolve` send a request of its own instead of joining one that hangs."""
        self._resolving.forget((key, tag))

    async def confirm(self, key: RepositoryKey, digest: Digest) -> Descriptor | None:
        """Confirm that the upstream lets a repository read this manifest; None if its HEAD does not show it.

        Some upstreams respond to HEAD without a digest, and some not at all; that is no permission.
        """
        self._raise_if_absent(key, digest)
        with self._recording_absence(key, digest):
            descriptor = await self._confirmation.confirm_manifest(key, digest)
        self._references.add(key, digest)
        return descriptor

    async def fetch(self, key: RepositoryKey, digest: Digest) -> tuple[Manifest, CacheResult]:
        """Return a manifest that is not stored, from the upstream."""
        self._raise_if_absent(key, digest)
        flight = (key, digest)
        has_joined = self._fetching.is_running(flight)
        manifest, is_stored = await self._fetching.run(flight, lambda: self._fetch(key, digest))
        if has_joined:
            return manifest, CacheResult.collapsed()
        return manifest, CacheResult.stored() if is_stored else CacheResult.forwarded(200)

    async def _resolve(self, key: RepositoryKey, tag: Tag, attempts: int) -> ResolvedTag:
        upstream, requested_at = self._upstreams[key.upstream], self._now()
        cache = CacheResult.forwarded(200)
        with self._recording_absence(key, tag):
            descriptor = await upstream.resolve(
                key.repository, tag, budget_seconds=REQUEST_SECONDS, attempts=attempts
            )
            if descriptor is None:
                manifest = await upstream.fetch_manifest(
                    key.repository, tag, budget_seconds=REQUEST_SECONDS, attempts=attempts
                )
                descriptor = manifest.descriptor
                if await self._store(key, manifest):
                    cache = CacheResult.stored()
            else:
                await self._confirmation.link_manifest(key, descriptor)
                self._references.add(key, descriptor.digest)
        self._absent.delete((key, descriptor.digest))
        observation = TagObservation(descriptor, requested_at)
        self._index.observe_tag(key, tag, observation)
        return ResolvedTag(observation, cache)

    async def _fetch(self, key: RepositoryKey, digest: Digest) -> tuple[Manifest, bool]:
        with self._recording_absence(key, digest):
            manifest = await self._upstreams[key.upstream].fetch_manifest(
                key.repository, digest, budget_seconds=REQUEST_SECONDS, attempts=_ATTEMPTS_UNCACHED
            )
        return manifest, await self._store(key, manifest)

    async def _store(self, key: RepositoryKey, manifest: Manifest) -> bool:
        """Store a manifest that the upstream has sent; return False if it cannot be stored."""
        self._hints.add(key, manifest)
        is_stored = await self._writer.store_manifest(key, manifest)
        self._references.add(key, manifest.digest)
        return is_stored

    @contextmanager
    def _recording_absence(self, key: RepositoryKey, reference: Reference) -> Iterator[None]:
        try:
            yield
        except (ManifestUnknown, NameUnknown) as error:
            if isinstance(reference, Tag):
                self._index.delete_tag(key, reference)
            # A copy: the error itself keeps the frames that it passed alive.
            self._absent.put((key, reference), type(error)(error.message, detail=error.detail))
            raise

    def _raise_if_absent(self, key: RepositoryKey, reference: Reference) -> None:
        """Repeat a recent 404 of the upstream."""
        absence = self._absent.get((key, reference))
        ttl = self._negative_ttl
        if isinstance(reference, Digest):
            ttl = min(ttl, _ABSENT_DIGEST_SECONDS)
        if absence is not None and absence.age_seconds < ttl:
            error = type(absence.value)(absence.value.message, detail=absence.value.detail)
            error.cache_status = str(CacheResult.hit(int(ttl - absence.age_seconds)))
            raise error
