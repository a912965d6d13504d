"""Pushing manifests.

A manifest is stored as the bytes in which it arrived, and parsed only to find what it references. An image or
an index is accepted when everything that it references is in its repository, so that a client that can pull a
tag can pull all of it. Two things need not be there (distribution-spec, "Pushing Manifests"): layers that may
not be distributed, and the subject. A manifest of an unknown media type only has to be JSON.
"""

from collections.abc import Iterable

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.hosted.ports import HostedContent, HostedLinks, HostedSpace
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.oci.content import ContentKind, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    ContentTooLarge,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    Unavailable,
)
from mirrord.oci.manifests import MAX_MANIFEST_BYTES, Descriptor
from mirrord.oci.names import Reference, RepositoryName, Tag
from mirrord.repository import RequestBody

_REFERENCES_A_SLICE = 100
"""References looked up between two yields to the reactor: a few milliseconds."""


@attrs.frozen(eq=False, kw_only=True)
class ManifestPusher:
    """Accepts manifests."""

    _links: HostedLinks
    _content: HostedContent
    _space: HostedSpace
    _clock: IReactorTime

    async def push(
        self,
        name: RepositoryName,
        reference: Reference,
        *,
        tags: Iterable[Tag],
        content_type: str | None,
        body: RequestBody,
    ) -> PushedManifest:
        """Store a manifest under its digest, and tag it with `reference`, if that is a tag, and `tags`.

        Its digest has the algorithm of `reference`, or sha256. Durable on return.

        Raises:
            DigestInvalid: The bytes do not match `reference`.
            ManifestInvalid: The body is not a manifest.
            ManifestBlobUnknown: It references content that the repository does not have.
            ContentTooLarge: It is larger than MAX_MANIFEST_BYTES.
            Unavailable: There is no room.
        """
        content, digest = await _read(
            body, reference.algorithm if isinstance(reference, Digest) else "sha256"
        )
        if isinstance(reference, Digest) and digest != reference:
            raise DigestInvalid(f"the bytes that were pushed are {digest}", detail=str(reference))
        pushed = PushedManifest.parse(content, content_type, digest)
        await self._require(name, pushed.blobs, is_manifest=False)
        await self._require(name, pushed.children, is_manifest=None)
        if not await self._space.make_room_for_push(len(content)):
            raise Unavailable("there is no room for this on the disk")
        await self._links.put_manifest(
            name,
            pushed.manifest,
            (reference, *tags) if isinstance(reference, Tag) else tuple(tags),
            referrer=pushed.referrer,
            blobs=[blob.digest for blob in pushed.blobs],
            children=[child.digest for child in pushed.children],
        )
        return pushed

    async def _require(
        self, name: RepositoryName, descriptors: Iterable[Descriptor], *, is_manifest: bool | None
    ) -> None:
        for number, descriptor in enumerate(descriptors, 1):
            if number % _REFERENCES_A_SLICE == 0:
                await yield_to_reactor(self._clock)
            link = self._links.link(name, descriptor.digest, is_manifest=is_manifest)
            if link is None or not self._has_file(link):
                raise ManifestBlobUnknown(
                    "the repository does not have content that the manifest references",
                    detail=str(descriptor.digest),
                )
            if link.descriptor.size != descriptor.size:
                raise ManifestInvalid(
                    "the manifest gives a wrong size for content that it references",
                    detail=str(descriptor.digest),
                )

    def _has_file(self, link: HostedLink) -> bool:
        kind = ContentKind.MANIFEST if link.is_manifest else ContentKind.BLOB
        return self._content.has_file(kind, link.descriptor.digest)


async def _read(body: RequestBody, algorithm: str) -> tuple[bytes, Digest]:
    """Read a whole body, and hash it as it arrives."""
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
    return ContentTooLarge(f"a manifest may have at most {MAX_MANIFEST_BYTES} bytes")
