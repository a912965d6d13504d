"""Visitors: who asked last for what. Kept in memory alone, for nobody needs it after a restart."""

from collections import OrderedDict
from collections.abc import Callable

import attrs

from mirrord.oci.names import Reference, RepositoryKey

MAX_VISITS = 10_000
"""Three megabytes of them, if so many different things are asked for."""


@attrs.frozen
class ClientVisit:
    """A client's address, and when it asked: wall clock, in seconds."""

    client: str
    asked_at: float


@attrs.define(eq=False)
class LastClients:
    """The last visit by repository and reference; what was asked for longest ago is forgotten first."""

    _now: Callable[[], float]
    _visits: OrderedDict[str, ClientVisit] = attrs.field(factory=OrderedDict, init=False)

    def saw(self, source: RepositoryKey, reference: Reference, client: str) -> None:
        """A client was given a manifest."""
        key = _key(source, reference)
        self._visits[key] = ClientVisit(client, self._now())
        self._visits.move_to_end(key)
        if len(self._visits) > MAX_VISITS:
            self._visits.popitem(last=False)

    def last(self, source: RepositoryKey, *references: Reference) -> ClientVisit | None:
        """The last visit for any of these."""
        visits = [self._visits.get(_key(source, reference)) for reference in references]
        return max(filter(None, visits), key=lambda visit: visit.asked_at, default=None)


def _key(source: RepositoryKey, reference: Reference) -> str:
    """One flat string: a tuple of parsed values takes three times the memory."""
    return f"{source} {reference}"
