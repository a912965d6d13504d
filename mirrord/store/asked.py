"""Asked: what somebody asked a hosted repository for, so that it does not go the next moment."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import attrs

MAX_ASKED = 5_000
"""Two megabytes at most; beyond, blobs go later than they could, never earlier."""

Name = tuple[str, str]
"""A repository and a digest."""


@attrs.define(eq=False)
class AccessTimes:
    """When blobs, and manifests that somebody names, were asked for last, in service time.

    It remembers so many; of all others it takes it that they were asked for when the last forgotten one
    was, which is never too early.
    """

    _since: float
    _times: dict[Name, float] = attrs.field(factory=dict, init=False)
    _going: set[Name] = attrs.field(factory=set, init=False)

    def note(self, repository: str, digest: str, now: float) -> bool:
        """Note that a blob is asked for; false where it is going just now, and counts as gone."""
        name = repository, digest
        if name in self._going:
            return False
        self._times.pop(name, None)
        self._times[name] = now
        if len(self._times) > MAX_ASKED:
            self._since = max(self._since, self._times.pop(next(iter(self._times))))
        return True

    def last(self, name: Name) -> float:
        """When this was last asked for, or may have been."""
        return self._times.get(name, self._since)

    def is_known_since(self, name: Name, since: float) -> bool:
        """Whether it is remembered that this was asked for after that moment."""
        return self._times.get(name, since) > since

    @contextmanager
    def going(self, names: Iterable[Name]) -> Iterator[None]:
        """While these are being taken away, nobody is told that they are there."""
        gone = set(names)
        self._going |= gone
        try:
            yield
        finally:
            self._going -= gone
