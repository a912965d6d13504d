"""BodyWriter: writes the body of a response, no faster than the client reads it."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from mirrord.http.request import MirrorRequest


@implementer(IPushProducer)
class BodyWriter:
    """Writes a response body, as the push producer of its request.

    Use it as a context manager, and `await has_room()` before making each chunk. `count` is called with the
    number of bytes written.
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
        """Wait until what was written has been sent."""
        if self._is_paused:
            self._waiting = Deferred()
            await self._waiting

    def write(self, chunk: bytes) -> None:
        """Write a chunk, and count it."""
        self._request.write(chunk)
        self._count(len(chunk))

    def pauseProducing(self) -> None:
        """Note that the transport's buffer is full."""
        self._is_paused = True

    def resumeProducing(self) -> None:
        """Note that the transport's buffer is empty."""
        self._is_paused = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """Do nothing: the request cancels the writer when the client disconnects."""
