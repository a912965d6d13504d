"""Pulling manifests: by digest what never changes, by tag what may.

A tag is always resolved first (by HEAD, which Docker Hub does not count as a pull) and then read by
its digest. So a tag moves in one step, when the manifest that it now names is stored; and whoever
wants that manifest, by whatever tag or digest, shares one GET. Only where an upstream's HEAD does
not tell the digest is the tag itself read.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs

from mirrord.oci.content import Manifest, Sighting, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, UpstreamRefused
from mirrord.oci.names import Reference, Source, Tag
from mirrord.pull.answers import PulledDescriptor, PulledManifest
from mirrord.pull.freshness import Fresh, Freshness
from mirrord.pull.naming import Names
from mirrord.pull.outcome import Outcome, Way, explained
from mirrord.pull.ports import Index, Manifests
from mirrord.pull.stale import Held, StaleIfError

T = TypeVar("T")


@attrs.frozen
class _HeldTag:
    """The manifest that a tag named when it was last asked about, to be served if the upstream fails."""

    manifest: Manifest
    age_seconds: int
    ttl_seconds: int

    def is_still(self, sighting: Sighting) -> bool:
        """Whether the tag names this manifest yet, by what was seen of it."""
        return self.manifest.digest == sighting.descriptor.digest

    def with_answer(self, answer: Callable[[Outcome], T]) -> Held[T]:
        """It, as what stands in for an upstream that fails, with the answer that is then made of it."""
        return Held(self.age_seconds, self.ttl_seconds, answer)

    def as_manifest(self, outcome: Outcome) -> PulledManifest:
        """The answer to a GET."""
        return PulledManifest(self.manifest, outcome)

    def as_descriptor(self, outcome: Outcome) -> PulledDescriptor:
        """The answer to a HEAD."""
        return PulledDescriptor(self.manifest.descriptor, outcome)


@attrs.define(eq=False)
class ManifestPuller:
    """Answers GET and HEAD of manifests. `now` is the wall clock, in seconds."""

    _manifests: Manifests
    _index: Index
    _names: Names
    _freshness: Mapping[str, Freshness]
    _stale_if_error: StaleIfError
    _now: Callable[[], float]

    @explained
    async def get(self, source: Source, reference: Reference) -> PulledManifest:
        """The manifest that `reference` names, verified.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and nothing held may stand in.
        """
        if isinstance(reference, Tag):
            return await self._get_tag(source, reference)
        manifest = await self._read_linked(source, reference)
        if manifest is not None:
            return PulledManifest(manifest, Outcome.hit())
        return await self._stale_if_error.patiently(self._get_digest(source, reference))

    @explained
    async def head(self, source: Source, reference: Reference) -> PulledDescriptor:
        """What `reference` names; fetches no manifest unless the upstream cannot say it otherwise.

        Raises:
            ManifestUnknown, NameUnknown, Denied: The upstream says so.
            UpstreamError: It failed, and nothing held may stand in.
        """
        if isinstance(reference, Tag):
            return await self._head_tag(source, reference)
        manifest = await self._read_linked(source, reference)
        if manifest is not None:
            return PulledDescriptor(manifest.descriptor, Outcome.hit())
        return await self._stale_if_error.patiently(self._head_digest(source, reference))

    async def _get_tag(self, source: Source, tag: Tag) -> PulledManifest:
        record, fresh = self._judge(source, tag)
        if fresh is not None:
            manifest = await self._read_linked(source, fresh.sighting.descriptor.digest)
            if manifest is not None:
                return PulledManifest(manifest, Outcome.hit(fresh.ttl_seconds, fresh.age_seconds))
        known = None if fresh is None else fresh.sighting
        held = await self._held(source, record)
        return await self._stale_if_error.ask(
            source,
            None if held is None else held.with_answer(held.as_manifest),
            lambda: self._get_named(source, tag, known, held),
            given_up=lambda: self._names.stop_waiting(source, tag),
            of_manifests=fresh is not None,
        )

    async def _head_tag(self, source: Source, tag: Tag) -> PulledDescriptor:
        record, fresh = self._judge(source, tag)
        held = None
        if fresh is None or self._stale_if_error.is_failing(source):
            held = await self._held(source, record)
        if fresh is not None and (held is None or held.is_still(fresh.sighting)):
            outcome = Outcome.hit(fresh.ttl_seconds, fresh.age_seconds)
            return PulledDescriptor(fresh.sighting.descriptor, outcome)
        return await self._stale_if_error.ask(
            source,
            None if held is None else held.with_answer(held.as_descriptor),
            lambda: self._head_named(source, tag, held),
            given_up=lambda: self._names.stop_waiting(source, tag),
        )

    async def _get_named(
        self, source: Source, tag: Tag, known: Sighting | None, held: _HeldTag | None
    ) -> PulledManifest:
        """The manifest of a tag: of what it is known to name, else of what the upstream says."""
        if known is not None:
            try:
                pulled = await self._get_digest(source, known.descriptor.digest)
            except ManifestUnknown:
                return await self._get_named(source, tag, None, held)
            return PulledManifest(pulled.manifest, _after(held, known, pulled.outcome))
        resolved = await self._names.resolve(source, tag, is_held=held is not None)
        try:
            pulled = await self._get_digest(source, resolved.sighting.descriptor.digest)
        except ManifestUnknown:
            raise UpstreamRefused("the upstream names a manifest that it does not have") from None
        is_hit = pulled.outcome.way is Way.HIT
        outcome = resolved.outcome if is_hit else pulled.outcome
        return PulledManifest(pulled.manifest, _after(held, resolved.sighting, outcome))

    async def _head_named(self, source: Source, tag: Tag, held: _HeldTag | None) -> PulledDescriptor:
        resolved = await self._names.resolve(source, tag, is_held=held is not None)
        outcome = _after(held, resolved.sighting, resolved.outcome)
        return PulledDescriptor(resolved.sighting.descriptor, outcome)

    async def _get_digest(self, source: Source, digest: Digest) -> PulledManifest:
        manifest = await self._manifests.read(digest)
        if manifest is not None:
            if self._index.link(source, digest) is not None:
                return PulledManifest(manifest, Outcome.hit())
            if await self._names.confirm(source, digest) is not None:
                return PulledManifest(manifest, Outcome.asked(200))
        return PulledManifest(*await self._names.fetch(source, digest))

    async def _head_digest(self, source: Source, digest: Digest) -> PulledDescriptor:
        descriptor = await self._names.confirm(source, digest)
        if descriptor is not None:
            return PulledDescriptor(descriptor, Outcome.asked(200))
        manifest, outcome = await self._names.fetch(source, digest)
        return PulledDescriptor(manifest.descriptor, outcome)

    async def _read_linked(self, source: Source, digest: Digest) -> Manifest | None:
        if self._index.link(source, digest) is None:
            return None
        return await self._manifests.read(digest)

    async def _held(self, source: Source, record: TagRecord | None) -> _HeldTag | None:
        fallback = self._freshness[source.upstream].fallback(record, self._now())
        if fallback is None:
            return None
        manifest = await self._read_linked(source, fallback.sighting.descriptor.digest)
        return None if manifest is None else _HeldTag(manifest, fallback.age_seconds, fallback.ttl_seconds)

    def _judge(self, source: Source, tag: Tag) -> tuple[TagRecord | None, Fresh | None]:
        record = self._index.tag(source, tag)
        return record, self._freshness[source.upstream].judge(record, self._now())


def _after(held: _HeldTag | None, sighting: Sighting, outcome: Outcome) -> Outcome:
    """How the answer came about, seen by a client for whom `held` was too old."""
    if held is None:
        return outcome
    is_new = not held.is_still(sighting) and outcome.way in {Way.STORED, Way.COLLAPSED}
    return Outcome.changed() if is_new else Outcome.revalidated()
