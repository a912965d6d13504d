"""Content: media types, descriptors, manifests (image-spec: descriptor, manifest, image-index)."""

import json
from collections.abc import Iterator
from typing import Any, Self

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, ManifestInvalid, ManifestUnknown

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""What a registry should at least accept, and what clients at most read (reference/protocol.md, 1.5)."""

_VAGUE = frozenset({"", "application/json", "application/octet-stream", "binary/octet-stream", "text/plain"})


@attrs.frozen
class Descriptor:
    """What content is: its media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int


@attrs.frozen
class Manifest:
    """A manifest whose bytes are what its digest names; they are kept and served verbatim."""

    digest: Digest
    media_type: str
    body: bytes = attrs.field(repr=False)

    @classmethod
    def parse(cls, body: bytes, content_type: str | None, digest: Digest | None = None) -> Self:
        """Read what a registry sent as a manifest.

        `content_type` is what it called it; where that says nothing (absent, text/plain, …) the
        body's own `mediaType` counts, then its shape (reference/protocol.md, section 2.2).
        `digest` is what it has to be; None means that its sha256 becomes its name.

        Raises:
            DigestInvalid: The bytes are not what `digest` names.
            ManifestInvalid: They are no manifest.
            ManifestUnknown: They are a schema 1 manifest, whose digest is not that of its bytes.
        """
        if digest is not None and not digest.matches(body):
            raise DigestInvalid(f"the manifest's bytes are not {digest}")
        document = _read_document(body)
        media_type = _clean(content_type)
        if media_type in _VAGUE:
            media_type = _media_type_of(document)
        if media_type in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED} or "fsLayers" in document:
            raise ManifestUnknown("schema 1 manifests cannot be verified, so they are not mirrored")
        return cls(digest or Digest.of(body), media_type, body)

    @property
    def descriptor(self) -> Descriptor:
        """What this manifest is."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    def references(self) -> tuple[Descriptor, ...]:
        """The config, layers and manifests that this manifest names; a malformed entry is passed over."""
        return tuple(_descriptors(_read_document(self.body)))


def _clean(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _read_document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise ManifestInvalid("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def _media_type_of(document: dict[str, Any]) -> str:
    declared = document.get("mediaType")
    if isinstance(declared, str) and _clean(declared) not in _VAGUE:
        return _clean(declared)
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    if "config" in document and "layers" in document:
        return OCI_MANIFEST
    if "fsLayers" in document:
        return DOCKER_SCHEMA1_SIGNED
    raise ManifestInvalid("neither a manifest nor an index")


def _descriptors(document: dict[str, Any]) -> Iterator[Descriptor]:
    entries: list[Any] = [document.get("config")]
    for key in ("layers", "manifests", "blobs"):
        several = document.get(key)
        if isinstance(several, list):
            entries.extend(several)
    for entry in entries:
        match entry:
            case {"digest": str(text), "size": int(size)} if size >= 0:
                try:
                    digest = Digest.parse(text)
                except DigestInvalid:
                    continue
                yield Descriptor(str(entry.get("mediaType", "")), digest, size)


@attrs.frozen
class Sighting:
    """What an upstream said that a tag names, and when it was last asked (wall clock, seconds)."""

    descriptor: Descriptor
    seen_at: float


@attrs.frozen
class TagRecord:
    """What is known of a tag.

    `held` names a manifest that is stored; `pending` one that was only seen by HEAD. A pending
    sighting never replaces a held one: it becomes held when its manifest is stored, by whatever
    route (design.md, section 3.6).
    """

    held: Sighting | None = None
    pending: Sighting | None = None
