"""PushedManifest: a manifest as it came, and what it says of others. Pure."""

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
    is_distributable,
    media_type_of,
    read_descriptor,
    read_document,
    references_in,
)

_IMAGES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})


@attrs.frozen
class PushedManifest:
    """A manifest, with what has to be in its repository before it is.

    `blobs` have to be there as blobs; `children`, which an index names, as manifests or as blobs: caches
    of builds are indexes of layers. The last three are what a list of referrers tells of it.
    """

    manifest: Manifest
    blobs: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, Any] | None = attrs.field(default=None, hash=False)

    @classmethod
    def parse(cls, body: bytes, content_type: str | None, digest: Digest) -> Self:
        """Read a manifest whose bytes have this digest, and which the client calls `content_type`.

        Raises:
            ManifestInvalid: It is none, or another than the client calls it.
        """
        document = read_document(body)
        media_type = _media_type(document, content_type)
        blobs: tuple[Descriptor, ...] = ()
        children: tuple[Descriptor, ...] = ()
        if media_type in _IMAGES:
            _check(document, absent=("manifests",))
            references = (_entry(document, "config"), *_entries(document, "layers"))
            blobs = tuple(one for one in references if is_distributable(one))
        elif media_type in _INDEXES:
            _check(document, absent=("config", "layers"))
            references = children = tuple(_entries(document, "manifests"))
        else:
            references = references_in(document)
        if sum(map(len, _lists(document))) >= MAX_REFERENCES:
            raise ManifestInvalid(f"no more than {MAX_REFERENCES} references are taken")
        manifest = Manifest(digest, media_type, body, references=references)
        if document.get("subject") is None:
            return cls(manifest, blobs, children)
        subject = _entry(document, "subject").digest
        annotations = document.get("annotations")
        return cls(
            manifest,
            blobs,
            children,
            subject,
            _artifact_type(document),
            annotations if isinstance(annotations, dict) else None,
        )


def _media_type(document: dict[str, Any], content_type: str | None) -> str:
    """What it is: the client and the manifest itself have to agree, where both say it."""
    declared, called = clean_media_type(document.get("mediaType", "")), clean_media_type(content_type)
    if "mediaType" in document and not declared:
        raise ManifestInvalid("its mediaType is no media type")
    if called in GENERIC_MEDIA_TYPES:
        called = media_type_of(document)
    elif declared and declared != called:
        raise ManifestInvalid(f"it is called {called}, and says that it is {declared}")
    if called in {DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED} or "fsLayers" in document:
        raise ManifestInvalid("manifests of schema 1 are not taken: no digest names their bytes")
    if not called.startswith("application/"):
        # As text/html, which it would be served as, a browser runs the scripts in it.
        raise ManifestInvalid("its media type is none of an application")
    return called


def _check(document: dict[str, Any], absent: Iterable[str]) -> None:
    """Whoever reads the bytes by another type must not see another manifest (CVE-2021-41190)."""
    if document.get("schemaVersion") != 2:
        raise ManifestInvalid("its schemaVersion is not 2")
    for key in absent:
        if key in document:
            raise ManifestInvalid(f"{key} has no place in a manifest of this media type")


def _lists(document: dict[str, Any]) -> list[list[Any]]:
    return [
        entries for key in ("layers", "manifests", "blobs") if isinstance(entries := document.get(key), list)
    ]


def _entries(document: dict[str, Any], key: str) -> list[Descriptor]:
    """The descriptors of a list that has to be there; Go writes an empty one as null."""
    entries = document.get(key, False)
    if entries is not None and not isinstance(entries, list):
        raise ManifestInvalid(f"{key} is not a list")
    return [_descriptor(entry, key) for entry in entries or ()]


def _entry(document: dict[str, Any], key: str) -> Descriptor:
    return _descriptor(document.get(key), key)


def _descriptor(entry: Any, key: str) -> Descriptor:
    descriptor = read_descriptor(entry)
    if descriptor is None:
        raise ManifestInvalid(f"in {key} is no descriptor of a media type, a digest and a size")
    return descriptor


def _artifact_type(document: dict[str, Any]) -> str | None:
    """What a list of referrers calls it: of an image that says nothing, the type of its config."""
    match document:
        case {"artifactType": str(named)} if named:
            return named
        case {"config": {"mediaType": str(named)}}:
            return named
    return None
