"""Hops: calls to threads that work on one open file.

The hard part is letting go. A coroutine that is cancelled leaves its thread running, and a descriptor
that is closed under a thread may be another file's a moment later. So a hop is never cancelled: whoever
waited for it is, and the file is closed when the last hop has come back.
"""

import os
from collections.abc import Callable
from typing import Any, ParamSpec

import attrs
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.store.disk import Threads

P = ParamSpec("P")


@attrs.define(eq=False)
class ThreadedFile:
    """An open file and who works on it; `closed` is told once, on the reactor, when it is closed."""

    _fd: int
    _threads: Threads
    _closed: Callable[[], None]
    _count: int = attrs.field(default=0, init=False)
    is_over: bool = attrs.field(default=False, init=False)

    @property
    def fd(self) -> int:
        """The descriptor, for hops only."""
        if self.is_over:
            raise ValueError("the file was let go")
        return self._fd

    @property
    def is_under_way(self) -> bool:
        """Whether somebody works on the file now."""
        return self._count > 0

    async def run(
        self, done: Callable[[], None], function: Callable[P, None], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Call `function` in a thread, then `done`, whether or not somebody still waits."""
        if self.is_over:
            raise ValueError("the file was let go")
        await self.shield(self._threads.run(function, *args, **kwargs), done)

    async def shield(self, hop: Deferred[Any], done: Callable[[], None]) -> None:
        """Wait for `hop`, which goes on if nobody waits any longer; then comes `done`, if it succeeds."""
        self._count += 1
        hop.addBoth(self._returned, done)
        waiting: Deferred[Any] = Deferred()
        hop.chainDeferred(waiting)
        await waiting

    def let_go(self) -> None:
        """Close the file when the last hop has come back; may be called more than once."""
        self.is_over = True
        self._close_if_over()

    def _returned(self, result: Any, done: Callable[[], None]) -> Any:
        self._count -= 1
        if not isinstance(result, Failure):
            done()
        self._close_if_over()
        return result

    def _close_if_over(self) -> None:
        if self.is_over and not self._count and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._closed()
