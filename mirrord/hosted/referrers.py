"""Referrers: the manifests that are about another one: signatures, attestations, lists of parts.

Most say so themselves, by a `subject`. Clients of registries without this list keep one of their own, an
index under a tag made of the subject's digest; what is in such an index and here is told too, so that
nothing is lost on the day when its registry learns the list (distribution-spec, "Referrers Tag Schema").
"""

import json
from collections.abc import Iterable
from heapq import merge
from operator import itemgetter
from typing import Any

import attrs

from mirrord.hosted.ports import HostedLinks, HostedManifestFiles
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestInvalid
from mirrord.oci.manifests import OCI_INDEX, Descriptor, read_descriptor, read_document
from mirrord.oci.names import RepositoryName, Tag

MAX_PAGE_BYTES = 4 * 1024 * 1024
"""No client reads more of an index (distribution-spec, "Listing Referrers")."""

_FRAME_BYTES = 256
"""What stands around the descriptors."""


@attrs.frozen
class ReferrersPage:
    """An image index of referrers; `next_after` is where the next page begins, None after the last."""

    body: bytes
    next_after: str | None


@attrs.frozen(eq=False)
class HostedReferrers:
    """Lists referrers."""

    _index: HostedLinks
    _manifests: HostedManifestFiles

    async def page(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None, after: str
    ) -> ReferrersPage:
        """Those that come after the digest `after`, in its order, as many as a client reads.

        Of a subject that nobody knows the list is empty: it may be pushed later.
        """
        own = (
            _entry(link.descriptor, link.artifact_type, link.annotations)
            for link in self._index.referrers(repository, subject, artifact_type, after)
        )
        listed = (
            entry
            for digest, entry in sorted((await self._of_tag(repository, subject)).items())
            if digest > after and artifact_type in {None, entry.get("artifactType")}
        )
        return _page(merge(own, listed, key=itemgetter("digest")))

    async def _of_tag(self, repository: RepositoryName, subject: Digest) -> dict[str, dict[str, Any]]:
        """By digest, what the clients' own list has of manifests here that do not say it themselves."""
        tagged = self._index.tag(repository, fallback_tag(subject))
        manifest = None if tagged is None else await self._manifests.read(tagged.digest)
        if manifest is None:
            return {}
        try:
            listed = read_document(manifest.body).get("manifests")
        except ManifestInvalid:
            return {}
        entries = {}
        for entry in listed if isinstance(listed, list) else ():
            descriptor = read_descriptor(entry)
            if descriptor is not None and self._is_silent(repository, descriptor.digest, subject):
                entries[str(descriptor.digest)] = _entry(
                    descriptor, entry.get("artifactType"), entry.get("annotations")
                )
        return entries

    def _is_silent(self, repository: RepositoryName, digest: Digest, subject: Digest) -> bool:
        """Whether this is a manifest that does not name its subject."""
        link = self._index.link(repository, digest, is_manifest=True)
        return link is not None and link.subject != subject


def fallback_tag(subject: Digest) -> Tag:
    """The tag under which clients keep a list of their own."""
    return Tag(f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def _entry(of: Descriptor, artifact_type: object, annotations: object) -> dict[str, Any]:
    """A descriptor. What is no string is left out of it: clients would read nothing of the whole list."""
    entry: dict[str, Any] = {"mediaType": of.media_type, "digest": str(of.digest), "size": of.size}
    if isinstance(artifact_type, str):
        entry["artifactType"] = artifact_type
    if isinstance(annotations, dict):
        notes = {name: note for name, note in annotations.items() if isinstance(note, str)}
        entry |= {"annotations": notes} if notes else {}
    return entry


def _page(entries: Iterable[dict[str, Any]]) -> ReferrersPage:
    """As many entries as a client reads, and one at least."""
    shown: list[str] = []
    size = _FRAME_BYTES
    last = None
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":"))
        size += len(text) + 1
        if shown and size > MAX_PAGE_BYTES:
            return ReferrersPage(_index_of(shown), last)
        shown.append(text)
        last = entry["digest"]
    return ReferrersPage(_index_of(shown), None)


def _index_of(entries: list[str]) -> bytes:
    listed = ",".join(entries)
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{listed}]}}'.encode()
