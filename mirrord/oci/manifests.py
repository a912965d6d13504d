"""Content: media types, descriptors, manifests (image-spec: descriptor, manifest, image-index)."""

import json
import re
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

OCTET_STREAM = "application/octet-stream"
"""The media type of a blob whose descriptor is unknown, and of every blob in a response."""

MAX_MANIFEST_BYTES = 4 * 1024 * 1024
"""What a registry should at least accept, and what clients at most read (reference/protocol.md, 1.5)."""

MAX_REFERENCES = 4096
"""How many entries of a manifest are looked at: 4 MiB could hold 44,000, which is a second's work."""

MAX_BRACKETS = 100_000
"""More than a manifest of MAX_REFERENCES has; 4 MiB of nothing else would be seconds of parsing."""

MAX_SIZE = 2**63 - 1
"""The largest size that is believed: an index of signed 64-bit numbers holds no more."""

_KNOWN = frozenset({OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST})
VAGUE_TYPES = frozenset({"", "application/json", OCTET_STREAM, "binary/octet-stream", "text/plain"})
"""Media types that do not say what a manifest is."""

_LISTS = ("layers", "manifests", "blobs")
"""Under these keys an image, an index and an artifact (of OCI 1.1's drafts) name what they consist of."""

_NOT_DISTRIBUTABLE = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)
"""How the media types of layers that no registry stores begin: parts of Windows (image-spec, layer.md)."""

_MEDIA_TYPE = re.compile(r"[ -~]{0,255}")


@attrs.frozen
class Descriptor:
    """What content is: its media type, digest and size in bytes."""

    media_type: str
    digest: Digest
    size: int


def is_distributable(descriptor: Descriptor) -> bool:
    """Return whether registries store the content; other layers are available from their vendor only."""
    return not descriptor.media_type.startswith(_NOT_DISTRIBUTABLE)


@attrs.frozen
class Manifest:
    """A manifest whose bytes are what its digest names; they are kept and served verbatim."""

    digest: Digest
    media_type: str
    body: bytes = attrs.field(repr=False)
    _references: tuple[Descriptor, ...] | None = attrs.field(default=None, eq=False, repr=False)
    """What it names, where whoever made this has read that already: of thousands it takes long."""

    @classmethod
    def parse(cls, body: bytes, content_type: str | None, digest: Digest | None = None) -> Self:
        """Read what a registry sent as a manifest.

        `content_type` is what it called it; where that says nothing (absent, text/plain, …) the
        body's own `mediaType` counts, then its shape (reference/protocol.md, section 2.2).
        `digest` is what it has to be; None means that its sha256 becomes its name.

        Whatever it is called, it has to look like a manifest: some registries say 200 to an error.

        Raises:
            DigestInvalid: The bytes are not what `digest` names.
            ManifestInvalid: They are no manifest.
            ManifestUnknown: They are a schema 1 manifest, whose digest is not that of its bytes.
        """
        if digest is not None and not digest.matches(body):
            raise DigestInvalid(f"the manifest's bytes are not {digest}")
        document = read_document(body)
        media_type, own_type = clean_media_type(content_type), media_type_of(document)
        if media_type in VAGUE_TYPES:
            media_type = own_type
        if media_type in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED} or "fsLayers" in document:
            raise ManifestUnknown("schema 1 manifests cannot be verified, so they are not mirrored")
        return cls(digest or Digest.of(body), media_type, body)

    @property
    def descriptor(self) -> Descriptor:
        """What this manifest is."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    def references(self) -> tuple[Descriptor, ...]:
        """The config, layers and manifests that this manifest names, the first MAX_REFERENCES of them.

        A malformed entry is passed over.
        """
        if self._references is not None:
            return self._references
        return references_in(read_document(self.body))


def clean_media_type(media_type: object) -> str:
    """A media type without its parameters; empty where it is none that could be sent on or kept."""
    if not isinstance(media_type, str) or _MEDIA_TYPE.fullmatch(media_type) is None:
        return ""
    return media_type.partition(";")[0].strip().lower()


def read_document(body: bytes) -> dict[str, Any]:
    """The JSON object that a manifest is, in UTF-8 and without NaN, or other readers would see none.

    Raises:
        ManifestInvalid: It is none.
    """
    if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise ManifestInvalid("the manifest has more lists and objects than any that is meant well")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ManifestInvalid("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def media_type_of(document: dict[str, Any]) -> str:
    """What a document says that it is, or what it looks like where it does not say.

    Raises:
        ManifestInvalid: It looks like nothing that is known.
    """
    declared = clean_media_type(document.get("mediaType"))
    if "fsLayers" in document:
        return DOCKER_SCHEMA1_SIGNED
    if declared not in _KNOWN and not any(_lists(document, key) for key in _LISTS):
        raise ManifestInvalid("neither a manifest nor an index")
    if declared not in VAGUE_TYPES:
        return declared
    return OCI_INDEX if _lists(document, "manifests") else OCI_MANIFEST


def _lists(document: dict[str, Any], key: str) -> bool:
    """Whether there is a list of that name; Go writes an empty one as null."""
    return key in document and (document[key] is None or isinstance(document[key], list))


def references_in(document: dict[str, Any]) -> tuple[Descriptor, ...]:
    """What a document names, whatever it is; a malformed entry is passed over."""
    return tuple(_descriptors(document))


def _descriptors(document: dict[str, Any]) -> Iterator[Descriptor]:
    entries: list[Any] = [document.get("config")]
    for key in _LISTS:
        entries.extend(document.get(key) or [] if _lists(document, key) else [])
    for entry in entries[:MAX_REFERENCES]:
        descriptor = read_descriptor(entry)
        if descriptor is not None:
            yield descriptor


def read_descriptor(entry: Any) -> Descriptor | None:
    """What an entry of a manifest says of content; None where it is malformed."""
    match entry:
        case {"digest": str(text), "size": int(size)} if type(size) is int and 0 <= size <= MAX_SIZE:
            media_type = entry.get("mediaType", "")
            if not isinstance(media_type, str) or _MEDIA_TYPE.fullmatch(media_type) is None:
                return None
            try:
                return Descriptor(media_type, Digest.parse(text), size)
            except DigestInvalid:
                return None
    return None
