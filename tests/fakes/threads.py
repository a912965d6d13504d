"""Threads that are none: calls run on the reactor."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.python.failure import Failure

from mirrord.store.threads import DiskTimeout, close_now

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class _HeldCall:
    """A call that waits, and those who wait for its result."""

    make: Callable[[], Any]
    _waiting: list[Deferred[Any]] = attrs.field(factory=list, init=False)

    def wait(self) -> Deferred[Any]:
        self._waiting.append(Deferred())
        return self._waiting[-1]

    def expire(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(DiskTimeout("a call", 60.0, self.wait))

    def end(self) -> None:
        try:
            result = self.make()
        except Exception:  # noqa: BLE001 - as a thread does
            result = Failure()
        for each in self._waiting:
            each.callback(result)


@attrs.define(eq=False)
class InlineThreads:
    """Runs each call at once; after `hold`, calls wait for `release`, as on a slow disk; or some of them.

    `failures` are raised by the next calls of the functions of these names, which are then not called.
    """

    failures: dict[str, Exception] = attrs.field(factory=dict)
    called: list[str] = attrs.field(factory=list)
    is_held: bool = False
    _held: list[_HeldCall] = attrs.field(factory=list)
    _names: tuple[str, ...] = ()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        self.called.append(function.__name__)
        if not self.is_held or (self._names and function.__name__ not in self._names):
            return maybeDeferred(lambda: self._call(function, *args, **kwargs))
        self._held.append(_HeldCall(lambda: self._call(function, *args, **kwargs)))
        return self._held[-1].wait()

    read = run
    sync = run
    index = run

    def close(self, fd: int, stamp: float | None = None) -> Deferred[None]:
        close_now(fd, stamp)
        return succeed(None)

    def hold(self, *names: str) -> None:
        """Let calls wait from now on; with names, only those of the functions of these names."""
        self.is_held, self._names = True, names

    def expire(self) -> None:
        """Let the calls that wait miss their deadline; they wait on."""
        for held in self._held:
            held.expire()

    def release(self) -> None:
        """Run the calls that wait, and all further ones at once."""
        self.is_held = False
        held, self._held = self._held, []
        for each in held:
            each.end()

    def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        failure = self.failures.pop(function.__name__, None)
        if failure is not None:
            raise failure
        return function(*args, **kwargs)
