"""Pushing manifests.

A manifest is kept as the bytes it came in; it is read only to know what it names. An image or an index is
taken when all that it names is in its repository, so that whoever can pull a tag can pull all of it. Two
things need not be there (distribution-spec, "Pushing Manifests"): layers that may not be distributed, and
the subject. Of media types that are unknown to us nothing is required but that they are JSON.
"""

from collections.abc import Callable, Iterable

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.hosted.ports import HostedLinks, HostedSpace, RequestBody
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.hosted.uploads import ContentTooLarge
from mirrord.oci.content import HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, ManifestBlobUnknown, ManifestInvalid, Unavailable
from mirrord.oci.manifests import MAX_MANIFEST_BYTES, Descriptor
from mirrord.oci.names import Reference, RepositoryName, Tag

_SLICE = 100
"""References that are looked up in a turn of the reactor: a few milliseconds."""


@attrs.frozen(eq=False)
class ManifestPusher:
    """Takes manifests. `now` is the wall clock."""

    _index: HostedLinks
    _room: HostedSpace
    _now: Callable[[], float]
    _clock: IReactorTime

    async def push(
        self,
        repository: RepositoryName,
        reference: Reference,
        tags: Iterable[Tag],
        content_type: str | None,
        body: RequestBody,
    ) -> PushedManifest:
        """Keep a manifest under its digest, and give it the tag that it is pushed to, and `tags`.

        Its digest is of the algorithm of `reference`, or sha256. Durable on return.

        Raises:
            DigestInvalid: The bytes are not what `reference` names.
            ManifestInvalid: They are no manifest.
            ManifestBlobUnknown: It names what the repository does not have.
            ContentTooLarge: It has more than MAX_MANIFEST_BYTES.
            Unavailable: There is no room.
        """
        content, digest = await _read(
            body, reference.algorithm if isinstance(reference, Digest) else "sha256"
        )
        if isinstance(reference, Digest) and digest != reference:
            raise DigestInvalid(f"the bytes that were pushed are {digest}", detail=str(reference))
        pushed = PushedManifest.parse(content, content_type, digest)
        await self._require(repository, pushed.blobs, is_manifest=False)
        await self._require(repository, pushed.children, is_manifest=None)
        if not await self._room.make_room_for_push(len(content)):
            raise Unavailable("there is no room for this on the disk")
        manifest = pushed.manifest
        link = HostedLink(
            descriptor=manifest.descriptor,
            is_manifest=True,
            linked_at=self._now(),
            subject=pushed.subject,
            artifact_type=pushed.artifact_type,
            annotations=pushed.annotations,
        )
        named = (reference, *tags) if isinstance(reference, Tag) else tuple(tags)
        await self._index.put_manifest(
            repository,
            manifest,
            link,
            named,
            blobs=[blob.digest for blob in pushed.blobs],
            children=[child.digest for child in pushed.children],
        )
        return pushed

    async def _require(
        self, repository: RepositoryName, descriptors: Iterable[Descriptor], *, is_manifest: bool | None
    ) -> None:
        for number, descriptor in enumerate(descriptors, 1):
            if number % _SLICE == 0:
                await yield_to_reactor(self._clock)
            link = self._index.link(repository, descriptor.digest, is_manifest=is_manifest)
            if link is None:
                raise ManifestBlobUnknown(
                    "the repository does not have what the manifest names", detail=str(descriptor.digest)
                )
            if link.descriptor.size != descriptor.size:
                raise ManifestInvalid(
                    "the manifest is wrong about the size of what it names", detail=str(descriptor.digest)
                )


async def _read(body: RequestBody, algorithm: str) -> tuple[bytes, Digest]:
    """All of a body and its digest, hashed as it comes."""
    if body.length is not None and body.length > MAX_MANIFEST_BYTES:
        raise _too_large()
    hasher = Digest.hasher_of(algorithm)
    chunks, size = [], 0
    while chunk := await body.read():
        size += len(chunk)
        if size > MAX_MANIFEST_BYTES:
            raise _too_large()
        hasher.update(chunk)
        chunks.append(chunk)
    return b"".join(chunks), Digest(algorithm, hasher.hexdigest())


def _too_large() -> ContentTooLarge:
    return ContentTooLarge(f"a manifest may have {MAX_MANIFEST_BYTES} bytes")
