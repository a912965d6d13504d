"""Outlet: where a body leaves bit by bit, no faster than its client takes it."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from mirrord.http.request import MirrorRequest


@implementer(IPushProducer)
class BodyWriter:
    """Where an answer leaves: tells when the client has room, as the push producer of its request.

    Use it as a context; `await has_room()` before each chunk is made. `count` is told how many bytes were
    written.
    """

    def __init__(self, request: MirrorRequest, count: Callable[[int], object]) -> None:
        self._request = request
        self._count = count
        self._is_paused = False
        self._waiting: Deferred[None] | None = None

    def __enter__(self) -> "BodyWriter":
        self._request.registerProducer(self, True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._request.channel is not None:
            self._request.unregisterProducer()

    async def has_room(self) -> None:
        """Wait until the client has taken what was written."""
        if self._is_paused:
            self._waiting = Deferred()
            await self._waiting

    def write(self, chunk: bytes) -> None:
        """Write a piece of a body, and count it."""
        self._request.write(chunk)
        self._count(len(chunk))

    def pauseProducing(self) -> None:
        """Enough is buffered."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """The buffer is empty."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The client left; the request is told too, and cancels whoever writes."""
