"""Threads that are none: calls run on the reactor."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import attrs
from twisted.internet.defer import Deferred, maybeDeferred

P = ParamSpec("P")
T = TypeVar("T")


@attrs.define(eq=False)
class InlineThreads:
    """Runs each call at once; after `hold`, calls wait for `release`, as on a slow disk.

    `failures` are raised by the next calls of the functions of these names, which are then not called.
    """

    failures: dict[str, Exception] = attrs.field(factory=dict)
    called: list[str] = attrs.field(factory=list)
    is_held: bool = False
    _waiting: list[Deferred[None]] = attrs.field(factory=list)

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        self.called.append(function.__name__)
        if not self.is_held:
            return maybeDeferred(lambda: self._call(function, *args, **kwargs))
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting.addCallback(lambda _: self._call(function, *args, **kwargs))

    def hold(self) -> None:
        """Let calls wait from now on."""
        self.is_held = True

    def release(self) -> None:
        """Run the calls that wait, and all further ones at once."""
        self.is_held = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)

    def _call(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        failure = self.failures.pop(function.__name__, None)
        if failure is not None:
            raise failure
        return function(*args, **kwargs)
