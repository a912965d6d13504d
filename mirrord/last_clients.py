"""The last client of each reference, kept in memory only: it is not needed after a restart."""

from collections.abc import Callable

import attrs
from cachetools import LRUCache

from mirrord.oci.names import Reference, RepositoryKey

MAX_REQUESTS = 10_000
"""Four megabytes, if so many different references are requested."""


@attrs.frozen
class LastRequest:
    """A client's address, and the time of its request: wall clock, in seconds."""

    client: str
    requested_at: float


@attrs.define(eq=False)
class LastClients:
    """The last request by repository and reference; the least recently used one is discarded first."""

    _now: Callable[[], float]
    _requests: LRUCache[str, LastRequest] = attrs.field(factory=lambda: LRUCache(MAX_REQUESTS), init=False)

    def record(self, repository: RepositoryKey, reference: Reference, client: str) -> None:
        """Record that a client received a manifest."""
        self._requests[_key(repository, reference)] = LastRequest(client, self._now())

    def last(self, repository: RepositoryKey, *references: Reference) -> LastRequest | None:
        """Return the last request for any of these references."""
        requests = [self._requests.get(_key(repository, reference)) for reference in references]
        return max(filter(None, requests), key=lambda request: request.requested_at, default=None)


def _key(repository: RepositoryKey, reference: Reference) -> str:
    """Return one flat string: a tuple of parsed values takes three times the memory."""
    return f"{repository} {reference}"
