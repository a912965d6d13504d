"""PushedManifest: a manifest as it was pushed, and what it references. Pure."""

from collections.abc import Iterable
from typing import Any, Self

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestInvalid
from mirrord.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    DOCKER_SCHEMA1,
    DOCKER_SCHEMA1_SIGNED,
    GENERIC_MEDIA_TYPES,
    MAX_REFERENCES,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Manifest,
    clean_media_type,
    is_application,
    is_distributable,
    media_type_of,
    read_descriptor,
    read_document,
    references_in,
)
from mirrord.oci.referrer import NO_REFERRER, Referrer

_IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})


@attrs.frozen(kw_only=True)
class PushedManifest:
    """A manifest, and the content that its repository must have before it is accepted.

    `blobs` must exist as blobs; `children`, which an index references, as manifests or as blobs: build caches
    are indexes of layers.
    """

    manifest: Manifest
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    referrer: Referrer = NO_REFERRER

    @classmethod
    def parse(cls, body: bytes, content_type: str | None, digest: Digest) -> Self:
        """Parse a manifest whose bytes have this digest, and which was pushed with this Content-Type.

        Raises:
            ManifestInvalid: It is not a manifest, or not of this media type.
        """
        document = read_document(body)
        media_type = _media_type(document, content_type)
        blobs: tuple[Descriptor, ...] = ()
        children: tuple[Descriptor, ...] = ()
        if media_type in _IMAGES:
            _check(document, absent=("manifests",))
            references = (_entry(document, "config"), *_entries(document, "layers"))
            blobs = tuple(filter(is_distributable, references))
        elif media_type in _INDEXES:
            _check(document, absent=("config", "layers"))
            references = children = tuple(_entries(document, "manifests"))
        else:
            references = references_in(document)
        if sum(map(len, _lists(document))) >= MAX_REFERENCES:
            raise ManifestInvalid(f"a manifest may have at most {MAX_REFERENCES} references")
        manifest = Manifest(digest, media_type, body, references=references)
        if document.get("subject") is not None:
            _entry(document, "subject")
        return cls(manifest=manifest, blobs=blobs, children=children, referrer=Referrer.of(document))


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    """Return the media type; if both Content-Type and the manifest declare one, they must agree."""
    declared, media_type = clean_media_type(document.get("mediaType", "")), clean_media_type(content_type)
    if "mediaType" in document and not declared:
        raise ManifestInvalid("mediaType is not a media type")
    if media_type in GENERIC_MEDIA_TYPES:
        media_type = media_type_of(document)
    elif declared and declared != media_type:
        raise ManifestInvalid(f"Content-Type is {media_type}, but mediaType is {declared}")
    if media_type in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED} or "fsLayers" in document:
        raise ManifestInvalid("manifests of schema 1 are not supported: no digest names their bytes")
    if not is_application(media_type):
        # It would be served as such; as text/html, a browser would run the scripts in it.
        raise ManifestInvalid("the media type does not begin with application/")
    return media_type


def _check(document: dict[str, Any], *, absent: Iterable[str]) -> None:
    """Check that no client that assumes another media type sees another manifest (CVE-2021-41190)."""
    if document.get("schemaVersion") != 2:
        raise ManifestInvalid("schemaVersion is not 2")
    for key in absent:
        if key in document:
            raise ManifestInvalid(f"a manifest of this media type must not have {key}")


def _lists(document: dict[str, Any]) -> list[list[Any]]:
    return [
        entries for key in ("layers", "manifests", "blobs") if isinstance(entries := document.get(key), list)
    ]


def _entries(document: dict[str, Any], key: str) -> list[Descriptor]:
    """Return the descriptors of a required list; Go writes an empty one as null."""
    entries = document.get(key, False)
    if entries is not None and not isinstance(entries, list):
        raise ManifestInvalid(f"{key} is not a list")
    return [_descriptor(entry, key) for entry in entries or ()]


def _entry(document: dict[str, Any], key: str) -> Descriptor:
    return _descriptor(document.get(key), key)


def _descriptor(entry: Any, key: str) -> Descriptor:
    descriptor = read_descriptor(entry)
    if descriptor is None:
        raise ManifestInvalid(f"{key}: not a descriptor with a media type, a digest and a size")
    return descriptor
