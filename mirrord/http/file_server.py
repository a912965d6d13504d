"""The transports of clients' connections: they count acknowledged bytes, and over TCP they send files.

A write that the kernel accepts says little about the client: the send buffer grows to megabytes, and wakes us
only when a third of it is free, so that a slow client seems stalled for minutes. AckMeter reads what
the kernel still has to send (SIOCOUTQ) instead: bytes handed over less unsent bytes are bytes acknowledged,
and they increase whenever the client reads.

The reactor calls `doWrite` whenever the socket has room. FileServer sends, in this order, what Twisted has
buffered (the headers) and then one chunk of the file, so that connections take turns. How a chunk is sent,
as it is or encrypted, is decided by the subclass (`send_chunk`). Two things are less obvious:

- Reading a file blocks the reactor, and with it every client, if the page is not in memory. So each chunk is
  probed first (`PageCache.has`); if it is cold, we stop writing, have a thread read it, and then continue.
- Twisted stops writing when its own buffer is empty, although there may still be a file to send.
"""

import fcntl
import os
import struct
import termios
from abc import abstractmethod
from typing import Any, ClassVar

import attrs
from twisted.internet import main, tcp, unix
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.http.page_cache import PageCache

_INT = struct.Struct("i")


class AckMeter:
    """Mixed into a server transport of Twisted's, before it: counts acknowledged bytes."""

    fileno: Any
    dataBuffer: bytes
    _tempDataLen: int
    handed_over = 0

    def writeSomeData(self, data: bytes) -> Any:
        """Write, and count what the kernel accepts."""
        count = super().writeSomeData(data)  # type: ignore[misc]
        if isinstance(count, int) and count > 0:
            self.handed_over += count
        return count

    def progress(self) -> tuple[int, bool]:
        """Return how many bytes the client has acknowledged, and whether there are others that it has not."""
        unsent = _INT.unpack(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(_INT.size)))[0]
        return self.handed_over - unsent, unsent > 0 or self.is_writing()

    @property
    def is_opening(self) -> bool:
        """Whether HTTP has not begun yet: a PROXY header or a TLS handshake comes first."""
        return False

    def is_writing(self) -> bool:
        """Whether there are bytes that the kernel has not accepted."""
        return bool(self.dataBuffer or self._tempDataLen)


class MeteredUnixServer(AckMeter, unix.Server):
    """A client's connection over a Unix socket."""


@attrs.define(eq=False, kw_only=True)
class _Sending:
    """A section of a file that is being sent."""

    fd: int
    offset: int
    stop: int
    done: Deferred[None]
    warm_until: int = 0
    is_warming: bool = False
    has_begun: bool = False


class FileServer(AckMeter, tcp.Server):
    """A client's connection over TCP, plain or encrypted.

    `file_bytes` is how many bytes of files the kernel has accepted so far.
    """

    chunk_bytes: ClassVar[int]
    file_bytes = 0
    _sending: _Sending | None = None

    def __init__(self, *args: Any, pages: PageCache) -> None:
        self._pages = pages
        super().__init__(*args)

    @abstractmethod
    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Send up to `count` bytes of a file now, and return how many; 0 if the socket has no room.

        After a 0 it is called with the same bytes again, before any others.

        Raises:
            EOFError: The file ends at `offset`.
            ConnectionError: The client has disconnected.
            OSError: The disk failed.
        """

    def send_file(self, fd: int, offset: int, count: int) -> Deferred[None]:
        """Send `count` bytes of a file, from `offset`, after what was written so far.

        The Deferred fires when the kernel has accepted all of them. It fails when the connection is lost,
        with EOFError if the file is shorter, or with the disk's OSError; then the connection is closed, and
        the response is never padded. When it is cancelled, sending stops and the response is incomplete, so
        close the connection. `fd` may be closed as soon as the Deferred has fired or failed.
        """
        sending = _Sending(fd=fd, offset=offset, stop=offset + count, done=Deferred(self._stop_sending))
        if count:
            self._sending = sending
            self.startWriting()
        else:
            sending.done.callback(None)
        return sending.done

    def is_writing(self) -> bool:
        """Whether there are bytes that the kernel has not accepted; not while they are read from the disk."""
        sending = self._sending
        return super().is_writing() or (sending is not None and not sending.is_warming)

    def doWrite(self) -> Any:
        """Send more; called by the reactor when the socket has room."""
        sending = self._sending
        is_next = sending is not None and (sending.has_begun or not super().is_writing())
        if sending is not None and is_next and not self.disconnecting:
            return self._send_some(sending)
        result = super().doWrite()
        if result is None and self.connected and self._sending is not None and not self._sending.is_warming:
            self.startWriting()
        return result

    def connectionLost(self, reason: Failure) -> None:
        """Fail what is being sent: the connection is lost."""
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

        def resume(_: object) -> None:
            # Also after a failed read: sending the chunk fails with the same error, which is handled there.
            sending.is_warming = False
            sending.warm_until = stop
            if self._sending is sending:
                self.startWriting()

        self._pages.warm(sending.fd, sending.offset, stop).addBoth(resume)

    def _stop_sending(self, _: Deferred[None]) -> None:
        # What was written before may still have to be sent; Twisted stops writing after that.
        self._sending = None


class SendfileServer(FileServer):
    """A client's connection over plain TCP: the kernel copies files from the page cache to the socket."""

    chunk_bytes = 512 * 1024

    def send_chunk(self, fd: int, offset: int, count: int) -> int:
        """Send some bytes of a file (FileServer)."""
        try:
            sent = os.sendfile(self.fileno(), fd, offset, count)
        except BlockingIOError:
            return 0
        if not sent:
            raise EOFError(f"the file ends at {offset}")
        self.handed_over += sent
        return sent
