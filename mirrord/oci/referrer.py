"""Referrer: how a manifest appears in the list of referrers of its subject (distribution-spec)."""

from typing import Any, Self

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import read_descriptor


@attrs.frozen
class Referrer:
    """The subject of a manifest, and its artifact type and annotations as a list of referrers shows them."""

    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, Any] | None = attrs.field(default=None, hash=False)

    @classmethod
    def of(cls, document: dict[str, Any]) -> Self:
        """Return what a manifest's document declares; nothing without a valid subject."""
        subject = read_descriptor(document.get("subject"))
        if subject is None:
            return cls()
        annotations = document.get("annotations")
        return cls(
            subject=subject.digest,
            artifact_type=_artifact_type(document),
            annotations=annotations if isinstance(annotations, dict) else None,
        )


NO_REFERRER = Referrer()
"""The value of a manifest without a subject."""


def _artifact_type(document: dict[str, Any]) -> str | None:
    """Return the declared artifact type; without one the media type of the config."""
    match document:
        case {"artifactType": str(declared)} if declared:
            return declared
        case {"config": {"mediaType": str(media_type)}}:
            return media_type
    return None
