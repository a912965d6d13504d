"""What manifests are called: tags resolved to digests, digests that a repository may read.

All questions about a name go through here, so all that is learned from an answer is noted here:
what a tag names, which links are earned, what is absent. The questions are shared (flight/single.py)
and belong to nobody: an answer that comes after its client has gone is noted all the same.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import attrs

from mirrord.flight.single import SingleFlight
from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.mirrored.ports import LinkIndex, ManifestFiles, Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.content import TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import Reference, RepositoryKey, Tag

_ATTEMPTS_UNHELD = 3
_ABSENT_DIGEST_SECONDS = 5.0
"""A digest that is absent may be pushed at any moment, and is then asked for at once."""


@attrs.frozen
class ResolvedTag:
    """What a tag names now; `outcome` is how that was learned, and whether its manifest came with it."""

    sighting: TagObservation
    outcome: CacheResult


@attrs.define(eq=False)
class ManifestResolver:
    """Asks upstreams about tags and digests, and notes what they say. `now` is the wall clock."""

    _upstreams: Mapping[str, Upstream]
    _manifests: ManifestFiles
    _index: LinkIndex
    _keeper: CacheWriter
    _now: Callable[[], float]
    _negative_ttl: float
    _absent: AgedCache[tuple[RepositoryKey, Reference], ManifestUnknown | NameUnknown]
    _resolving: SingleFlight[tuple[RepositoryKey, Tag], ResolvedTag] = attrs.field(
        factory=SingleFlight, init=False
    )
    _confirming: SingleFlight[tuple[RepositoryKey, Digest], Descriptor | None] = attrs.field(
        factory=SingleFlight, init=False
    )
    _fetching: SingleFlight[tuple[RepositoryKey, Digest], tuple[Manifest, bool]] = attrs.field(
        factory=SingleFlight, init=False
    )

    async def resolve(self, source: RepositoryKey, tag: Tag, *, is_held: bool) -> ResolvedTag:
        """What the upstream says now that a tag names; asked once only where something is held."""
        self._raise_if_absent(source, tag)
        attempts = 1 if is_held else _ATTEMPTS_UNHELD
        return await self._resolving.run((source, tag), lambda: self._resolve(source, tag, attempts))

    def stop_waiting(self, source: RepositoryKey, tag: Tag) -> None:
        """The running `resolve` hangs: the next one asks anew instead of joining it."""
        self._resolving.forget((source, tag))

    async def confirm(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        """That the upstream lets `source` read this manifest; None where its HEAD does not say so.

        Some upstreams answer HEAD without saying to what, and some not at all; that is no permission.
        """
        self._raise_if_absent(source, digest)
        return await self._confirming.run((source, digest), lambda: self._confirm(source, digest))

    async def fetch(self, source: RepositoryKey, digest: Digest) -> tuple[Manifest, CacheResult]:
        """A manifest that is not stored, from the upstream."""
        self._raise_if_absent(source, digest)
        key = (source, digest)
        has_joined = self._fetching.is_running(key)
        manifest, is_kept = await self._fetching.run(key, lambda: self._fetch(source, digest))
        if has_joined:
            return manifest, CacheResult.collapsed()
        return manifest, CacheResult.stored() if is_kept else CacheResult.asked(200)

    async def _resolve(self, source: RepositoryKey, tag: Tag, attempts: int) -> ResolvedTag:
        upstream, asked_at = self._upstreams[source.upstream], self._now()
        outcome = CacheResult.asked(200)
        with self._noting_absence(source, tag):
            descriptor = await upstream.resolve(
                source.repository, tag, budget_seconds=ASK_SECONDS, attempts=attempts
            )
            if descriptor is None:
                manifest = await upstream.fetch_manifest(
                    source.repository, tag, budget_seconds=ASK_SECONDS, attempts=attempts
                )
                descriptor = manifest.descriptor
                if await self._keeper.keep_manifest(source, manifest):
                    outcome = CacheResult.stored()
            else:
                await self._earn_link(source, descriptor.digest)
        self._absent.delete((source, descriptor.digest))
        sighting = TagObservation(descriptor, asked_at)
        self._index.observe_tag(source, tag, sighting)
        return ResolvedTag(sighting, outcome)

    async def _confirm(self, source: RepositoryKey, digest: Digest) -> Descriptor | None:
        with self._noting_absence(source, digest):
            descriptor = await self._upstreams[source.upstream].resolve(
                source.repository, digest, budget_seconds=ASK_SECONDS, attempts=_ATTEMPTS_UNHELD
            )
        if descriptor is not None:
            await self._earn_link(source, digest)
        return descriptor

    async def _fetch(self, source: RepositoryKey, digest: Digest) -> tuple[Manifest, bool]:
        with self._noting_absence(source, digest):
            manifest = await self._upstreams[source.upstream].fetch_manifest(
                source.repository, digest, budget_seconds=ASK_SECONDS, attempts=_ATTEMPTS_UNHELD
            )
        return manifest, await self._keeper.keep_manifest(source, manifest)

    async def _earn_link(self, source: RepositoryKey, digest: Digest) -> None:
        """The upstream answered for this repository: what is stored may be read through it."""
        if self._index.link(source, digest) is None:
            manifest = await self._manifests.read(digest)
            if manifest is not None:
                await self._keeper.keep_manifest(source, manifest)

    @contextmanager
    def _noting_absence(self, source: RepositoryKey, reference: Reference) -> Iterator[None]:
        try:
            yield
        except (ManifestUnknown, NameUnknown) as error:
            if isinstance(reference, Tag):
                self._index.delete_tag(source, reference)
            # A copy: the error itself holds the frames that it came through.
            self._absent.put((source, reference), type(error)(error.message, detail=error.detail))
            raise

    def _raise_if_absent(self, source: RepositoryKey, reference: Reference) -> None:
        """Answer again what the upstream said a moment ago."""
        memory = self._absent.get((source, reference))
        ttl = self._negative_ttl
        if isinstance(reference, Digest):
            ttl = min(ttl, _ABSENT_DIGEST_SECONDS)
        if memory is not None and memory.age_seconds < ttl:
            again = type(memory.value)(memory.value.message, detail=memory.value.detail)
            again.cache_status = str(CacheResult.hit(int(ttl - memory.age_seconds)))
            raise again
