"""Pulling manifests: by digest what never changes, by tag what may.

A tag is always resolved first (by HEAD, which Docker Hub does not count as a pull) and then read by
its digest. So a tag moves in one step, when the manifest that it now names is stored; and whoever
wants that manifest, by whatever tag or digest, shares one GET. Only where an upstream's HEAD does
not tell the digest is the tag itself read.
"""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.oci.content import Manifest, Sighting, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, UpstreamError, UpstreamRefused, UpstreamTimeout
from mirrord.oci.names import Reference, Source, Tag
from mirrord.pull.answers import PulledDescriptor, PulledManifest
from mirrord.pull.freshness import Expired, Fallback, Fresh, Freshness
from mirrord.pull.naming import Names
from mirrord.pull.outcome import Outcome, Way, explained
from mirrord.pull.patience import HELD_SECONDS, UNHELD_SECONDS, within
from mirrord.pull.ports import Index, Manifests, Upstream

T = TypeVar("T")


@attrs.frozen
class _Stale:
    """A held manifest, to be served if the upstream fails."""

    manifest: Manifest
    fallback: Fallback

    def is_still(self, sighting: Sighting) -> bool:
        return self.manifest.digest == sighting.descriptor.digest


@attrs.define(eq=False)
class ManifestPuller:
    """Answers GET and HEAD of manifests. `now` is the wall clock, in seconds."""

    _upstreams: Mapping[str, Upstream]
    _manifests: Manifests
    _index: Index
    _names: Names
    _freshness: Mapping[str, Freshness]
    _clock: IReactorTime
    _now: Callable[[], float]
    _log = Logger()

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
        return await self._patiently(self._get_digest(source, reference))

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
        return await self._patiently(self._head_digest(source, reference))

    async def _get_tag(self, source: Source, tag: Tag) -> PulledManifest:
        record, verdict = self._judge(source, tag)
        known = verdict.sighting if isinstance(verdict, Fresh) else None
        if isinstance(verdict, Fresh):
            manifest = await self._read_linked(source, verdict.sighting.descriptor.digest)
            if manifest is not None:
                return PulledManifest(manifest, Outcome.hit(verdict.ttl_seconds, verdict.age_seconds))
        stale = await self._stale(source, record)
        return await self._or_stale(
            (source, tag),
            stale,
            lambda: self._get_named(source, tag, known, stale),
            PulledManifest,
        )

    async def _head_tag(self, source: Source, tag: Tag) -> PulledDescriptor:
        record, verdict = self._judge(source, tag)
        stale = None
        if isinstance(verdict, Expired) or self._is_failing(source):
            stale = await self._stale(source, record)
        if isinstance(verdict, Fresh) and (stale is None or stale.is_still(verdict.sighting)):
            outcome = Outcome.hit(verdict.ttl_seconds, verdict.age_seconds)
            return PulledDescriptor(verdict.sighting.descriptor, outcome)
        return await self._or_stale(
            (source, tag),
            stale,
            lambda: self._head_named(source, tag, stale),
            lambda manifest, outcome: PulledDescriptor(manifest.descriptor, outcome),
        )

    async def _get_named(
        self, source: Source, tag: Tag, known: Sighting | None, stale: _Stale | None
    ) -> PulledManifest:
        sighting = known or await self._names.resolve(source, tag, is_held=stale is not None)
        try:
            pulled = await self._get_digest(source, sighting.descriptor.digest)
        except ManifestUnknown:
            if known is not None:
                return await self._get_named(source, tag, None, stale)
            raise UpstreamRefused("the upstream names a manifest that it does not have") from None
        if stale is not None:
            outcome = Outcome.revalidated() if stale.is_still(sighting) else Outcome.changed()
            return PulledManifest(pulled.manifest, outcome)
        return PulledManifest(pulled.manifest, Outcome.asked(200)) if _is_hit(pulled) else pulled

    async def _head_named(self, source: Source, tag: Tag, stale: _Stale | None) -> PulledDescriptor:
        sighting = await self._names.resolve(source, tag, is_held=stale is not None)
        return PulledDescriptor(
            sighting.descriptor, Outcome.asked(200) if stale is None else Outcome.revalidated()
        )

    async def _get_digest(self, source: Source, digest: Digest) -> PulledManifest:
        manifest = await self._read_linked(source, digest)
        if manifest is not None:
            return PulledManifest(manifest, Outcome.hit())
        manifest = await self._manifests.read(digest)
        if manifest is not None:
            await self._names.confirm(source, digest)
            return PulledManifest(manifest, Outcome.asked(200))
        return PulledManifest(*await self._names.fetch(source, digest))

    async def _head_digest(self, source: Source, digest: Digest) -> PulledDescriptor:
        descriptor = await self._names.confirm(source, digest)
        if descriptor is not None:
            return PulledDescriptor(descriptor, Outcome.asked(200))
        pulled = await self._get_digest(source, digest)
        return PulledDescriptor(pulled.manifest.descriptor, pulled.outcome)

    async def _or_stale(
        self,
        key: tuple[Source, Tag],
        stale: _Stale | None,
        ask: Callable[[], Coroutine[Any, Any, T]],
        dress: Callable[[Manifest, Outcome], T],
    ) -> T:
        """What asking gives; or what is held, if the upstream fails, is silent, or failed a moment ago."""
        if stale is None:
            return await self._patiently(ask())
        source, age = key[0], stale.fallback.age_seconds
        if self._is_failing(source):
            return dress(stale.manifest, Outcome.stale_unasked(stale.fallback.ttl_seconds, age))
        try:
            return await within(self._clock, HELD_SECONDS, ask())
        except UpstreamError as error:
            reason, status = error.message, error.upstream_status
        except TimeoutError:
            self._upstreams[source.upstream].doubt()
            self._names.stop_waiting(*key)
            reason, status = "it did not answer in time", None
        self._log.warn(
            "{source}:{tag} is served stale, the upstream failed: {reason}",
            source=str(source),
            tag=str(key[1]),
            reason=reason,
        )
        return dress(stale.manifest, Outcome.stale(status, age))

    async def _patiently(self, ask: Coroutine[Any, Any, T]) -> T:
        try:
            return await within(self._clock, UNHELD_SECONDS, ask)
        except TimeoutError:
            raise UpstreamTimeout("the upstream did not answer in time") from None

    async def _read_linked(self, source: Source, digest: Digest) -> Manifest | None:
        if self._index.link(source, digest) is None:
            return None
        return await self._manifests.read(digest)

    async def _stale(self, source: Source, record: TagRecord | None) -> _Stale | None:
        fallback = self._freshness[source.upstream].fallback(record, self._now())
        if fallback is None:
            return None
        manifest = await self._read_linked(source, fallback.sighting.descriptor.digest)
        return None if manifest is None else _Stale(manifest, fallback)

    def _judge(self, source: Source, tag: Tag) -> tuple[TagRecord | None, Fresh | Expired]:
        record = self._index.tag(source, tag)
        return record, self._freshness[source.upstream].judge(record, self._now())

    def _is_failing(self, source: Source) -> bool:
        return self._upstreams[source.upstream].is_doubtful(of_manifests=False)


def _is_hit(pulled: PulledManifest) -> bool:
    return pulled.outcome.way is Way.HIT
