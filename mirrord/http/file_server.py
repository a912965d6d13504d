"""FileServer: a client's TCP connection that can be given a file to send.

The reactor calls `doWrite` whenever the socket has room. Ours sends, in this order, what Twisted
has buffered (the headers) and then a chunk of the file: one chunk a call, so that connections take
turns. How a chunk leaves, as it is or encrypted, is the subclass's (`send_chunk`).

Two things are less obvious:

- Whoever reads a file waits for the disk if the page is not in memory, and everybody waits with it.
  So each chunk is probed first (Pages.has); if it is cold, we stop asking for room, have a thread
  read it, and go on when it is there.
- Twisted stops asking for room when its own buffer is empty; there may still be a file to send.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import attrs
from twisted.internet import main, tcp
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.http.ack_meter import AckMeter
from mirrord.http.page_cache import PageCache


@attrs.define(eq=False)
class _Sending:
    """A stretch of a file that is on its way."""

    fd: int
    offset: int
    stop: int
    done: Deferred[None]
    warm_until: int = 0
    is_warming: bool = False
    has_begun: bool = False


class FileServer(AckMeter, tcp.Server):
    """A client's connection over TCP, plain or not. Only its subclasses know how bytes leave.

    `file_bytes` is how many bytes of files the kernel has taken so far.
    """

    chunk_bytes: ClassVar[int]
    file_bytes = 0
    _sending: _Sending | None = None

    def __init__(self, pages: PageCache, *args: Any) -> None:
        self._pages = pages
        super().__init__(*args)

    @abstractmethod
    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Send some of these bytes of a file, now; gives how many, 0 where there is no room.

        After a 0 the same bytes are asked for again, before any others.

        Raises:
            EOFError: The file ends at `offset`.
            ConnectionError: The client is gone.
            OSError: The disk failed.
        """

    def send_file(self, fd: int, offset: int, count: int) -> Deferred[None]:
        """Send `count` bytes of a file, from `offset`, after what was written so far.

        The Deferred fires when the kernel has taken them all. It fails with the connection's end,
        with EOFError where the file is shorter, or with the disk's OSError; the connection is closed
        then, and never padded. Cancelled, it stops sending: the answer is cut short, so close the
        connection. `fd` may be closed as soon as the Deferred has fired, whichever way.
        """
        sending = _Sending(fd, offset, offset + count, Deferred(self._stop_sending))
        if count:
            self._sending = sending
            self.startWriting()
        else:
            sending.done.callback(None)
        return sending.done

    def is_writing(self) -> bool:
        """Whether bytes wait that the kernel has not taken; not while a disk is what we wait for."""
        sending = self._sending
        return super().is_writing() or (sending is not None and not sending.is_warming)

    def doWrite(self) -> Any:
        """Called by the reactor when the socket has room."""
        sending = self._sending
        is_next = sending is not None and (sending.has_begun or not super().is_writing())
        if sending is not None and is_next and not self.disconnecting:
            return self._send_some(sending)
        result = super().doWrite()
        if result is None and self.connected and self._sending is not None and not self._sending.is_warming:
            self.startWriting()
        return result

    def connectionLost(self, reason: Failure) -> None:
        """The connection is gone."""
        sending, self._sending = self._sending, None
        super().connectionLost(reason)
        if sending is not None and not sending.done.called:
            sending.done.errback(reason)

    def _send_some(self, sending: _Sending) -> Any:
        sending.has_begun = True
        stop = min(sending.stop, sending.offset + self.chunk_bytes)
        if sending.is_warming:
            self.stopWriting()
            return None
        if stop > sending.warm_until and not self._pages.has(sending.fd, stop - 1):
            self._warm(sending, stop)
            return None
        try:
            count = self.send_chunk(sending.fd, sending.offset, stop - sending.offset)
        except (ConnectionError, TimeoutError):
            return main.CONNECTION_LOST
        except (EOFError, OSError):
            self._sending = None
            sending.done.errback(Failure())
            return main.CONNECTION_DONE
        sending.offset += count
        self.file_bytes += count
        if sending.offset == sending.stop:
            self._sending = None
            if not self.is_writing():
                self.stopWriting()
            sending.done.callback(None)
        return None

    def _warm(self, sending: _Sending, stop: int) -> None:
        sending.is_warming = True
        self.stopWriting()

        def go_on(_: object) -> None:
            # Even if the read failed: whoever sends meets the same error, and knows what to do.
            sending.is_warming = False
            sending.warm_until = stop
            if self._sending is sending:
                self.startWriting()

        self._pages.warm(sending.fd, sending.offset, stop).addBoth(go_on)

    def _stop_sending(self, _: Deferred[None]) -> None:
        # What was written before may still have to leave; Twisted stops asking for room after that.
        self._sending = None
