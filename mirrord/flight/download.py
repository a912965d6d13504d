"""Download: the state machine of one growing blob.

    Opening ──opened──▶ Streaming ──verified──▶ Verified ──committed──▶ Committed
       └────────────failed──┴──▶ Failed

A download knows numbers only: how large the blob is, how much of it is written. The bytes are in
a file that subscribers read by themselves, each with its own descriptor and at its own pace, so a
slow one holds back nobody and a late one costs a read (design.md, section 3.4). What they learn
here is how far they may read: `readable` is what is written, but the last byte is held back until
the digest of all is verified, so that no client ever holds a complete wrong body (section 3.2).

The hard part is re-entry. A subscriber that is told "it grew" runs at once, and may subscribe
again, wait again or give up inside that call. Hence one rule for every event: change the state
first, then swap the waiters out, then fire them. A generated state machine was tried and raises on
re-entry; an event bus with one queue costs every chunk a reactor turn.
"""

from collections.abc import Callable

import attrs
from twisted.internet.defer import Deferred


@attrs.frozen
class Opening:
    """Nobody knows yet how large the blob is, or whether there is one."""


@attrs.frozen
class Streaming:
    """Of `size` bytes, the first `written` can be read."""

    size: int
    written: int


@attrs.frozen
class Verified:
    """All `size` bytes are there and are what the digest names."""

    size: int


@attrs.frozen
class Committed:
    """The blob is in the store; new readers take it from there."""

    size: int


@attrs.frozen
class Failed:
    """It ended without the blob."""

    error: Exception


State = Opening | Streaming | Verified | Committed | Failed


@attrs.define(eq=False)
class _Waiter:
    """Someone who is told `answer` as soon as it `is_due`."""

    is_due: Callable[[], bool]
    answer: Callable[[], int]
    told: Deferred[int]


@attrs.define(eq=False)
class Download:
    """One running fetch of one blob, as its subscribers see it. Events come from the fetch alone."""

    state: State = attrs.field(factory=Opening, init=False)
    _waiters: list[_Waiter] = attrs.field(factory=list, init=False)

    @property
    def size(self) -> int | None:
        """The blob's size in bytes, once it is known."""
        match self.state:
            case Streaming(size=size) | Verified(size=size) | Committed(size=size):
                return size
        return None

    @property
    def written(self) -> int:
        """How many bytes are in the file."""
        match self.state:
            case Streaming(written=written):
                return written
            case Verified(size=size) | Committed(size=size):
                return size
        return 0

    @property
    def readable(self) -> int:
        """How many bytes may leave now. Of an empty blob -1 until it is verified: not even its end may."""
        match self.state:
            case Streaming(size, written):
                return min(written, size - 1)
            case Verified(size=size) | Committed(size=size):
                return size
        return -1

    @property
    def is_over(self) -> bool:
        """Whether no more bytes will come."""
        return not isinstance(self.state, Opening | Streaming)

    def sized(self) -> Deferred[int]:
        """Fires with the size as soon as it is known, fails if the download does first."""
        return self._wait(lambda: self.size is not None, lambda: self.size or 0)

    def grown(self, beyond: int) -> Deferred[int]:
        """Fires with `readable` once that is greater than `beyond`, fails if the download does first."""
        return self._wait(lambda: self.readable > beyond, lambda: self.readable)

    def opened(self, size: int, written: int = 0) -> None:
        """The size is known; `written` bytes are left from an earlier try."""
        self._become(Streaming(size, written))

    def grew(self, written: int) -> None:
        """The file now holds `written` bytes."""
        match self.state:
            case Streaming(size=size):
                self._become(Streaming(size, written))

    def verified(self) -> None:
        """Size and digest agree."""
        match self.state:
            case Streaming(size=size):
                self._become(Verified(size))

    def committed(self) -> None:
        """The store has it."""
        match self.state:
            case Verified(size=size):
                self._become(Committed(size))

    def failed(self, error: Exception) -> None:
        """It ended without the blob. What is verified can no longer fail."""
        if isinstance(self.state, Opening | Streaming):
            self._become(Failed(error))

    def _wait(self, is_due: Callable[[], bool], answer: Callable[[], int]) -> Deferred[int]:
        waiter = _Waiter(is_due, answer, Deferred(self._forget))
        if not self._tell(waiter):
            self._waiters.append(waiter)
        return waiter.told

    def _forget(self, told: Deferred[int]) -> None:
        self._waiters = [waiter for waiter in self._waiters if waiter.told is not told]

    def _become(self, state: State) -> None:
        self.state = state
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not self._tell(waiter):
                self._waiters.append(waiter)

    def _tell(self, waiter: _Waiter) -> bool:
        """Fire a waiter that is due; whether it needs to wait no longer, be it that it has given up."""
        if not waiter.told.called:
            if isinstance(self.state, Failed):
                waiter.told.errback(self.state.error)
            elif waiter.is_due():
                waiter.told.callback(waiter.answer())
        return bool(waiter.told.called)
