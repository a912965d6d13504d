"""Removals: content whose files are being deleted, in a thread.

Its rows are dropped first, so that it is absent for everyone; but its files are there for a moment longer, or
for as long as the disk hangs. In the meantime a file must not be found again because it exists, and no new
file may be written in its place: it would be deleted instead.
"""

from collections.abc import Iterable
from typing import TypeAlias, TypeVar

import attrs
from twisted.internet.defer import Deferred

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.threads import shield

ContentKey: TypeAlias = tuple[ContentKind, Digest]
T = TypeVar("T")


@attrs.define(eq=False)
class Removals:
    """The removals that are running."""

    _running: dict[ContentKey, list[Deferred[None]]] = attrs.field(factory=dict, init=False)

    def is_running(self, kind: ContentKind, digest: Digest) -> bool:
        """Return whether the file of this content is being removed."""
        return (kind, digest) in self._running

    async def run(self, keys: Iterable[ContentKey], removing: Deferred[T]) -> T:
        """Return the result of a call in a thread that deletes or renames the files of this content.

        Raises:
            OSError: The disk failed, or has not responded in time; the removal runs until the call returns.
        """
        waiting = {key: self._running.setdefault(key, []) for key in keys}

        def returned(_: object) -> None:
            for key, waiters in waiting.items():
                self._running.pop(key, None)
                for waiter in waiters:
                    waiter.callback(None)

        return await shield(removing, returned)

    async def finished(self, kind: ContentKind, digest: Digest) -> None:
        """Wait until the file of this content is not being removed."""
        while (waiters := self._running.get((kind, digest))) is not None:
            finished: Deferred[None] = Deferred()
            waiters.append(finished)
            await finished
