"""Media types, descriptors and manifests (image-spec: descriptor, manifest, image-index)."""

import json
import re
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
"""The largest manifest: registries should accept it, clients read no more (reference/protocol.md, 1.5)."""

MAX_REFERENCES = 4096
"""The number of entries of a manifest that are read: 4 MiB can contain 44,000, which take a second."""

MAX_BRACKETS = 100_000
"""More than a manifest of MAX_REFERENCES has; parsing 4 MiB of brackets would take seconds."""

MAX_SIZE = 2**63 - 1
"""The largest size that is accepted: the index stores signed 64-bit numbers."""

_KNOWN = frozenset({OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST})
GENERIC_MEDIA_TYPES = frozenset({"", "application/json", OCTET_STREAM, "binary/octet-stream", "text/plain"})
"""Media types that do not identify a kind of manifest."""

_LISTS = ("layers", "manifests", "blobs")
"""The keys under which images, indexes and artifacts (OCI 1.1 drafts) list their content."""

_NOT_DISTRIBUTABLE = (
    "application/vnd.oci.image.layer.nondistributable.",
    "application/vnd.docker.image.rootfs.foreign.",
)
"""The beginnings of media types of layers that no registry stores, as of Windows (image-spec, layer.md)."""

_MEDIA_TYPE = re.compile(r"[ -~]{0,255}")
_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_TYPE_AND_SUBTYPE = re.compile(f"{_NAME}/{_NAME}")
"""A media type without parameters in lowercase (RFC 6838, section 4.2)."""


@attrs.frozen
class Descriptor:
    """The media type, digest and size in bytes of content."""

    media_type: str
    digest: Digest
    size: int


def is_distributable(descriptor: Descriptor) -> bool:
    """Return whether registries store the content; other layers are available from their vendor only."""
    return not descriptor.media_type.startswith(_NOT_DISTRIBUTABLE)


@attrs.frozen
class Manifest:
    """A manifest whose bytes match its digest; they are stored and served verbatim.

    `_references` are passed where the caller has read them already, since reading thousands takes long.
    """

    digest: Digest
    media_type: str
    body: bytes = attrs.field(repr=False)
    _references: tuple[Descriptor, ...] | None = attrs.field(default=None, kw_only=True, eq=False, repr=False)

    @classmethod
    def parse(cls, body: bytes, content_type: str | None, digest: Digest | None = None) -> Self:
        """Parse a manifest from a response.

        `content_type` determines its media type; where that is generic (absent, text/plain, …), or not
        that of an application, the body's own `mediaType` does, then its structure (reference/protocol.md,
        section 2.2). No other type is accepted: a browser would show text/html as a page, with its scripts.
        `digest` is the expected one; None means that the sha256 of the body becomes the manifest's digest.

        The body must have the structure of a manifest: some registries respond to errors with 200.

        Raises:
            DigestInvalid: The body does not match `digest`.
            ManifestInvalid: The body is not a manifest.
            ManifestUnknown: The body is a schema 1 manifest, whose digest is not that of its bytes.
        """
        if digest is not None and not digest.matches(body):
            raise DigestInvalid(f"the manifest does not match {digest}")
        document = read_document(body)
        media_type, own_type = clean_media_type(content_type), media_type_of(document)
        if media_type in GENERIC_MEDIA_TYPES or not is_application(media_type):
            media_type = own_type
        if not is_application(media_type):
            raise ManifestInvalid("the media type does not begin with application/")
        if media_type in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED} or "fsLayers" in document:
            raise ManifestUnknown("schema 1 manifests are not mirrored, since they cannot be verified")
        return cls(digest or Digest.of(body), media_type, body)

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of this manifest."""
        return Descriptor(self.media_type, self.digest, len(self.body))

    def references(self) -> tuple[Descriptor, ...]:
        """Return the config, layers and manifests that this manifest references, at most MAX_REFERENCES.

        Malformed entries are skipped.
        """
        if self._references is not None:
            return self._references
        return references_in(read_document(self.body))


def clean_media_type(media_type: object) -> str:
    """Return a media type in lowercase and without parameters; empty where it is not a valid one."""
    if not isinstance(media_type, str) or _MEDIA_TYPE.fullmatch(media_type) is None:
        return ""
    bare = media_type.partition(";")[0].strip().lower()
    return bare if _TYPE_AND_SUBTYPE.fullmatch(bare) is not None else ""


def is_application(media_type: str) -> bool:
    """Return whether a media type may be that of a manifest."""
    return media_type.startswith("application/")


def read_document(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a manifest; UTF-8 without NaN, so that other parsers read the same.

    Raises:
        ManifestInvalid: The body is not a JSON object.
    """
    if body.count(b"[") + body.count(b"{") > MAX_BRACKETS:
        raise ManifestInvalid("the manifest has too many lists and objects")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        raise ManifestInvalid("the manifest is not JSON") from None
    if not isinstance(document, dict):
        raise ManifestInvalid("the manifest is not a JSON object")
    return document


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def media_type_of(document: dict[str, Any]) -> str:
    """Return the declared media type of a document, or derive it from the structure.

    Raises:
        ManifestInvalid: The document has the structure of no known manifest.
    """
    declared = clean_media_type(document.get("mediaType"))
    if "fsLayers" in document:
        return DOCKER_SCHEMA1_SIGNED
    if declared not in _KNOWN and not any(_has_list(document, key) for key in _LISTS):
        raise ManifestInvalid("neither a manifest nor an index")
    if declared not in GENERIC_MEDIA_TYPES:
        return declared
    return OCI_INDEX if _has_list(document, "manifests") else OCI_MANIFEST


def _has_list(document: dict[str, Any], key: str) -> bool:
    """Return whether the key contains a list; Go writes an empty one as null."""
    return key in document and (document[key] is None or isinstance(document[key], list))


def references_in(document: dict[str, Any]) -> tuple[Descriptor, ...]:
    """Return the descriptors in any kind of manifest; malformed entries are skipped."""
    entries: list[Any] = [document.get("config")]
    for key in _LISTS:
        entries.extend(document.get(key) or [] if _has_list(document, key) else [])
    return tuple(filter(None, map(read_descriptor, entries[:MAX_REFERENCES])))


def read_descriptor(entry: Any) -> Descriptor | None:
    """Parse an entry of a manifest; None where it is malformed."""
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
