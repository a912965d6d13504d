"""Referrers: the manifests that refer to another one, such as signatures, attestations and SBOMs.

Most have it as their `subject`. Clients of registries without the referrers API maintain a list themselves,
an index under a tag made of the subject's digest. Those of its entries that exist here are listed too, so
that nothing is lost when images move from such a registry (distribution-spec, "Referrers Tag Schema").
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
"""The most that clients read of an index (distribution-spec, "Listing Referrers")."""

_FRAME_BYTES = 256
"""The index without its descriptors."""


@attrs.frozen
class ReferrersPage:
    """An image index of referrers; the next page begins after `next_after`, None on the last page."""

    body: bytes
    next_after: str | None


@attrs.frozen(eq=False)
class HostedReferrers:
    """Lists referrers."""

    _links: HostedLinks
    _manifests: HostedManifestFiles

    async def page(
        self, repository: RepositoryName, subject: Digest, artifact_type: str | None, after: str
    ) -> ReferrersPage:
        """Return the referrers after the digest `after`, in order of digest, as many as a client reads.

        The list of an unknown subject is empty: it may be pushed later.
        """
        with_subject = (
            _entry(link.descriptor, link.referrer.artifact_type, link.referrer.annotations)
            for link in self._links.referrers(repository, subject, artifact_type, after)
        )
        in_tag = (
            entry
            for digest, entry in sorted((await self._of_tag(repository, subject)).items())
            if digest > after and artifact_type in {None, entry.get("artifactType")}
        )
        return _page(merge(with_subject, in_tag, key=itemgetter("digest")))

    async def _of_tag(self, repository: RepositoryName, subject: Digest) -> dict[str, dict[str, Any]]:
        """Return, by digest, the entries of the clients' list whose manifests do not name the subject."""
        tagged = self._links.tag(repository, fallback_tag(subject))
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
            if descriptor is not None and self._lacks_subject(repository, descriptor.digest, subject):
                entries[str(descriptor.digest)] = _entry(
                    descriptor, entry.get("artifactType"), entry.get("annotations")
                )
        return entries

    def _lacks_subject(self, repository: RepositoryName, digest: Digest, subject: Digest) -> bool:
        """Return whether this is a manifest here that does not name its subject."""
        link = self._links.link(repository, digest, is_manifest=True)
        return link is not None and link.referrer.subject != subject


def fallback_tag(subject: Digest) -> Tag:
    """Return the tag of the list that clients maintain themselves."""
    return Tag(f"{subject.algorithm[:32]}-{subject.encoded[:64]}")


def _entry(descriptor: Descriptor, artifact_type: object, annotations: object) -> dict[str, Any]:
    """Return an entry without values that are not strings: clients would reject the whole list."""
    entry: dict[str, Any] = {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if isinstance(artifact_type, str):
        entry["artifactType"] = artifact_type
    if isinstance(annotations, dict):
        strings = {name: value for name, value in annotations.items() if isinstance(value, str)}
        entry |= {"annotations": strings} if strings else {}
    return entry


def _page(entries: Iterable[dict[str, Any]]) -> ReferrersPage:
    """Return a page of as many entries as a client reads, and at least one."""
    shown: list[str] = []
    size = _FRAME_BYTES
    last = None
    for entry in entries:
        text = json.dumps(entry, separators=(",", ":"))
        size += len(text) + 1
        if shown and size > MAX_PAGE_BYTES:
            return ReferrersPage(_index(shown), last)
        shown.append(text)
        last = entry["digest"]
    return ReferrersPage(_index(shown), None)


def _index(entries: list[str]) -> bytes:
    listed = ",".join(entries)
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{listed}]}}'.encode()
