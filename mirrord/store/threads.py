"""Threads for the disk: calls that block, and let go of the GIL while they do."""

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Protocol):
    """Where blocking calls are made."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` elsewhere; fires on the reactor with what it returned or raised."""
        ...


@attrs.define(eq=False)
class PoolThreads:
    """The threads of a pool of our own, which its maker starts and stops.

    The reactor's shared pool resolves host names, and must not queue behind an SD card's fsync.
    """

    _reactor: IReactorFromThreads
    _pool: ThreadPool

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` in a thread of the pool."""
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)
