"""What a hosted repository has, by reference: its index is the whole truth, and nobody else is asked."""

from collections.abc import Iterator

import attrs
from twisted.internet.interfaces import IReactorTime

from mirrord.flight.cooperate import yield_to_reactor
from mirrord.hosted.ports import HostedLinks
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import Reference, RepositoryName

_TAGS = 1000
_REPOSITORIES = 100
"""Rows that are read in a turn of the reactor: a millisecond or two."""


@attrs.frozen(eq=False)
class HostedReader:
    """Says what is there."""

    _index: HostedLinks
    _clock: IReactorTime

    def manifest(self, repository: RepositoryName, reference: Reference) -> Descriptor:
        """The manifest that a reference names.

        Raises:
            ManifestUnknown: None.
        """
        if isinstance(reference, Digest):
            link = self._index.link(repository, reference, is_manifest=True)
            found = None if link is None else link.descriptor
        else:
            found = self._index.tag(repository, reference)
        if found is None:
            raise ManifestUnknown("there is no such manifest in this repository")
        return found

    def blob(self, repository: RepositoryName, digest: Digest) -> Descriptor:
        """The blob of this digest.

        Raises:
            BlobUnknown: There is none.
        """
        link = self._index.link(repository, digest, is_manifest=False)
        if link is None:
            raise BlobUnknown("there is no such blob in this repository")
        return link.descriptor

    async def tags(self, repository: RepositoryName, after: str, limit: int | None) -> tuple[str, ...]:
        """The tags that sort after `after`, `limit` of them at most; None: all.

        Between pages others have a turn.
        """
        tags: list[str] = []
        while limit is None or len(tags) < limit:
            wanted = _TAGS if limit is None else min(_TAGS, limit - len(tags))
            page = self._index.tags(repository, tags[-1] if tags else after, wanted)
            tags += page
            if len(page) < wanted:
                break
            await yield_to_reactor(self._clock)
        return tuple(tags)

    def repositories(self, after: str) -> Iterator[RepositoryName]:
        """The hosted repositories after this one, in order of name, read as they are taken."""
        while page := self._index.repositories(after, _REPOSITORIES):
            yield from page
            after = page[-1].name
