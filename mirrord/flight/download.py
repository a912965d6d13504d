"""Download: the state machine of one growing blob.

    Opening ──opened──▶ Streaming ──verified──▶ Verified ──committed──▶ Committed
       └────────────failed──┴──▶ Failed

A download has numbers only: the size of the blob and how much of it is written. The bytes are in a
file that each subscriber reads with its own descriptor and at its own pace, so a slow one delays no
other and a late one costs a read (docs/architecture.md, invariant 4). Here subscribers learn how far they may
read: `readable` is what is written, but the last byte is withheld until the digest of all bytes is
verified, so that no client ever receives a complete wrong body (invariant 2).

The difficulty is re-entry. A subscriber's callback runs at once, and may subscribe again, wait again
or cancel inside that call. Hence one rule for every event: change the state first, then swap the
waiters out, then fire them. A generated state machine was tried and raises on re-entry; an event bus
with one queue costs a reactor iteration per chunk.
"""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred


@attrs.frozen
class Opening:
    """The size of the blob is unknown, and so is whether it exists."""


@attrs.frozen
class Streaming:
    """The first `written` of `size` bytes are in the file."""

    size: int
    written: int


@attrs.frozen
class Verified:
    """All `size` bytes are in the file and match the digest."""

    size: int


@attrs.frozen
class Committed:
    """The blob is in the store; new readers open it there."""

    size: int


@attrs.frozen
class Failed:
    """The download ended without the blob."""

    error: Exception


State = Opening | Streaming | Verified | Committed | Failed


@attrs.define(eq=False)
class _Waiter:
    """A Deferred to fire with `result` as soon as that is not None."""

    result: Callable[[], int | None]
    deferred: Deferred[int]


@attrs.define(eq=False)
class Download:
    """One running fetch of one blob, as its subscribers see it. Only the fetch reports events."""

    state: State = attrs.field(factory=Opening, init=False)
    _waiters: list[_Waiter] = attrs.field(factory=list, init=False)

    @property
    def size(self) -> int | None:
        """The size of the blob in bytes; None until it is known."""
        match self.state:
            case Streaming(size=size) | Verified(size=size) | Committed(size=size):
                return size
        return None

    @property
    def written(self) -> int:
        """The number of bytes in the file."""
        match self.state:
            case Streaming(written=written):
                return written
            case Verified(size=size) | Committed(size=size):
                return size
        return 0

    @property
    def readable(self) -> int:
        """The number of bytes that may be sent; -1 withholds the end of an empty blob until verified."""
        match self.state:
            case Streaming(size, written):
                return min(written, size - 1)
            case Verified(size=size) | Committed(size=size):
                return size
        return -1

    @property
    def is_over(self) -> bool:
        """Whether no more bytes will be written."""
        return not isinstance(self.state, Opening | Streaming)

    def sized(self) -> Deferred[int]:
        """Return a Deferred that fires with the size once it is known, or fails with the download."""
        return self._wait(lambda: self.size)

    def grown(self, beyond: int) -> Deferred[int]:
        """Return a Deferred that fires with `readable` once beyond this, or fails with the download."""
        return self._wait(lambda: readable if (readable := self.readable) > beyond else None)

    def opened(self, size: int, written: int = 0) -> None:
        """Record the size; `written` bytes are left from an earlier download."""
        self._set_state(Streaming(size, written))

    def grew(self, written: int) -> None:
        """Record that the file now has `written` bytes."""
        match self.state:
            case Streaming(size=size):
                self._set_state(Streaming(size, written))

    def verified(self) -> None:
        """Record that size and digest match: the last byte may be read."""
        match self.state:
            case Streaming(size=size):
                self._set_state(Verified(size))

    def committed(self) -> None:
        """Record that the blob is in the store."""
        match self.state:
            case Verified(size=size):
                self._set_state(Committed(size))

    def failed(self, error: Exception) -> None:
        """Record that the download ended without the blob; ignored once it is verified."""
        if isinstance(self.state, Opening | Streaming):
            self._set_state(Failed(error))

    def _wait(self, result: Callable[[], int | None]) -> Deferred[int]:
        waiter = _Waiter(result, Deferred(self._remove))
        if not self._fire(waiter):
            self._waiters.append(waiter)
        return waiter.deferred

    def _remove(self, deferred: Deferred[int]) -> None:
        self._waiters = [waiter for waiter in self._waiters if waiter.deferred is not deferred]

    def _set_state(self, state: State) -> None:
        self.state = state
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not self._fire(waiter):
                self._waiters.append(waiter)

    def _fire(self, waiter: _Waiter) -> bool:
        """Fire a waiter that is due; return whether it has fired, now or before (by cancellation)."""
        if not waiter.deferred.called:
            if isinstance(self.state, Failed):
                waiter.deferred.errback(self.state.error)
            elif (result := waiter.result()) is not None:
                waiter.deferred.callback(result)
        return bool(waiter.deferred.called)
