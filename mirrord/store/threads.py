"""Threads for a disk that may be slow, or may hang.

A system call that hangs cannot be interrupted: it keeps its thread until the kernel returns, if it ever
does. An SD card may take a minute for an fsync; a dying disk, or an NFS server that is gone, takes for ever.
So:

- *Lanes.* What waits for the disk (fsync) has threads of its own, and so have the index, and reads: behind
  four hung fsyncs files are still created and deleted, and while a file system is frozen files are read.
- *Deadlines.* A caller waits for a bounded time, and then gets `DiskTimeout`. The call continues. The owner
  of what its thread uses, such as a descriptor, learns from `DiskTimeout.ended` when it has returned.
- *Bounds.* A lane has few threads, and refuses a call when too many wait for them.
- *Daemon threads.* Python joins all others when it exits, and Twisted those of a pool when it is stopped.
  Neither may wait for a thread that hangs.
"""

import errno
import math
import os
from collections.abc import Callable
from threading import Thread
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

RUN_SECONDS = 60.0
"""The deadline of other calls, which wait for the disk if too much of what is in memory is unwritten."""

SYNC_SECONDS = 120.0
"""The deadline of an fsync: a small host may have 800 MB to write to a card that takes 10 MB a second."""

HUNG_SECONDS = 30.0
"""How long a call may run before `DiskThreads.problem` reports it."""

MAX_CALLS = 1024
"""The most calls of one lane that run or wait for a thread."""

P = ParamSpec("P")
T = TypeVar("T")


class Threads(Protocol):
    """Threads for blocking calls; each fires on the reactor with the result or the exception."""

    def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that changes nothing on the disk.

        The Deferred fails with `DiskTimeout` after RUN_SECONDS.
        """
        ...

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that creates, renames, deletes, or writes without an fsync.

        The Deferred fails with `DiskTimeout` after RUN_SECONDS.
        """
        ...

    def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that waits until something is on the disk.

        The Deferred fails with `DiskTimeout` after SYNC_SECONDS.
        """
        ...

    def index(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that writes the index, in the only thread that does. It has no deadline."""
        ...

    def close(self, fd: int, stamp: float | None = None) -> Deferred[None]:
        """Close a descriptor soon: that may take long, as it frees what was deleted while it was open.

        With `stamp`, the times of its file are set to that first (disk.stamp). The Deferred fires when it is
        closed, or after RUN_SECONDS; it does not fail.
        """


class DiskTimeout(OSError):
    """A call has not returned by its deadline; it may still succeed, or fail, later.

    `wait` returns a new Deferred for its result each time.
    """

    def __init__(self, operation: str, seconds: float, wait: Callable[[], Deferred[Any]]) -> None:
        super().__init__(errno.ETIMEDOUT, _unanswered(operation, seconds))
        self._wait = wait

    def ended(self) -> Deferred[Any]:
        """Return a Deferred that fires with the result of the call, or its exception, at its end."""
        return self._wait()


@attrs.define(eq=False)
class _Call(Generic[T]):
    """A call that runs since `begun_at`, or waits for a thread."""

    begun_at: float = attrs.field(default=math.inf, init=False)
    _waiting: list[Deferred[T]] = attrs.field(factory=list, init=False)

    def wait(self) -> Deferred[T]:
        """Return a Deferred for the result."""
        waiting: Deferred[T] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def end(self, result: T | Failure) -> None:
        """Report the result to everyone who still waits for it."""
        for waiting in self._waiting:
            if not waiting.called:
                waiting.callback(result)


class DaemonThread(Thread):
    """A thread that does not keep the process from exiting."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, daemon=True, **kwargs)


class DaemonThreadPool(ThreadPool):
    """A pool of daemon threads, which can be stopped although some of them hang."""

    threadFactory = DaemonThread  # noqa: N815 - Twisted's name

    def stop(self) -> None:
        """Stop the threads; leave them to the end of the process if one is in a call."""
        if not self.working:
            super().stop()


@attrs.define(eq=False)
class _Lane:
    """A pool of threads for one kind of `operation`, and its calls that have not returned."""

    _reactor: Any
    pool: ThreadPool
    operation: str
    _deadline_seconds: float | None
    _calls: set[_Call[Any]] = attrs.field(factory=set, init=False)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` in a thread, unless too many calls wait for one."""
        if len(self._calls) >= MAX_CALLS:
            return fail(OSError(errno.EBUSY, f"{MAX_CALLS} operations are waiting for the disk"))
        return self.call_always(function, *args, **kwargs)

    def call_always(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` in a thread."""
        call: _Call[T] = _Call()
        self._calls.add(call)

        def begin() -> T:
            call.begun_at = self._reactor.seconds()
            return function(*args, **kwargs)

        waiting = call.wait()
        if (seconds := self._deadline_seconds) is not None:
            timer = self._reactor.callLater(seconds, self._expire, waiting, call, seconds)
            waiting.addBoth(_stop, timer)
        deferToThreadPool(self._reactor, self.pool, begin).addBoth(self._ended, call)
        return waiting

    def begun_at(self) -> float:
        """Return when the oldest of the running calls began; infinity if none is running."""
        return min((call.begun_at for call in self._calls), default=math.inf)

    def _expire(self, waiting: Deferred[T], call: _Call[T], seconds: float) -> None:
        waiting.errback(DiskTimeout(self.operation, seconds, call.wait))

    def _ended(self, result: T | Failure, call: _Call[T]) -> None:
        self._calls.discard(call)
        call.end(result)


class DiskThreads:
    """The threads of a store's disk; implements `Threads`. Calls made before `start` wait for it."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._reading = _Lane(reactor, DaemonThreadPool(0, 4, "reads"), "a read", RUN_SECONDS)
        self._running = _Lane(reactor, DaemonThreadPool(0, 4, "disk"), "a write", RUN_SECONDS)
        self._syncing = _Lane(reactor, DaemonThreadPool(0, 4, "fsync"), "an fsync", SYNC_SECONDS)
        self._indexing = _Lane(reactor, DaemonThreadPool(0, 1, "index"), "a write of the index", None)
        self._lanes = (self._reading, self._running, self._syncing, self._indexing)

    @property
    def problem(self) -> str | None:
        """The operation that the disk has not completed for HUNG_SECONDS; None if there is none."""
        oldest = min(self._lanes, key=_Lane.begun_at)
        seconds = self._reactor.seconds() - oldest.begun_at()
        return None if seconds < HUNG_SECONDS else _unanswered(oldest.operation, seconds)

    @property
    def pools(self) -> tuple[ThreadPool, ...]:
        """The pools, to be started and stopped."""
        return tuple(lane.pool for lane in self._lanes)

    def read(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that changes nothing (Threads)."""
        return self._reading.call(function, *args, **kwargs)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that needs no fsync (Threads)."""
        return self._running.call(function, *args, **kwargs)

    def sync(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that waits until something is on the disk (Threads)."""
        return self._syncing.call(function, *args, **kwargs)

    def index(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call a function that writes the index (Threads)."""
        return self._indexing.call(function, *args, **kwargs)

    def close(self, fd: int, stamp: float | None = None) -> Deferred[None]:
        """Close a descriptor soon (Threads)."""
        return self._running.call_always(close_now, fd, stamp).addErrback(_ignore)


@attrs.define(eq=False)
class PoolThreads:
    """The threads of a pool that its creator starts and stops; their calls have no deadline."""

    _reactor: IReactorFromThreads
    _pool: ThreadPool

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Call `function` in a thread of the pool."""
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)


def shield(running: Deferred[T], returned: Callable[[T | Failure], None]) -> Deferred[T]:
    """Return a Deferred for a call of `Threads`; the caller that awaits it may be cancelled.

    `returned` is called with the result when the call has returned, which may be after its deadline.
    """
    waiting: Deferred[T] = Deferred()
    running.addBoth(_report, returned)
    running.chainDeferred(waiting)
    return waiting


def _report(result: T | Failure, returned: Callable[[T | Failure], None]) -> T | Failure:
    """Call `returned` once the call has returned.

    It is no closure: one that refers to itself, and by `returned` to a chunk, would stay in memory until
    garbage collection.
    """
    if isinstance(result, Failure) and isinstance(result.value, DiskTimeout):
        result.value.ended().addBoth(_report, returned).addErrback(_ignore)
    else:
        returned(result)
    return result


def close_now(fd: int, stamp: float | None) -> None:
    """Set the times of a file to `stamp`, unless that is None, and close it."""
    try:
        if stamp is not None:
            os.utime(fd, (stamp, stamp))
    finally:
        os.close(fd)


def _ignore(_: Failure) -> None:
    """Ignore an error of which the caller has heard, or on which nothing depends."""


def _stop(result: T, timer: IDelayedCall) -> T:
    if timer.active():
        timer.cancel()
    return result


def _unanswered(operation: str, seconds: float) -> str:
    return f"the disk has not completed {operation} in {seconds:.0f} s"
