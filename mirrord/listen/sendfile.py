"""SendfileServer: a client's TCP connection that can send a file without touching its bytes.

The reactor calls `doWrite` whenever the socket has room. Ours sends, in this order, what Twisted
has buffered (the headers) and then a chunk of the file straight from the page cache: one chunk a
call, so that connections take turns.

Three things are less obvious:

- `sendfile` waits for the disk if the page is not in memory, and everybody waits with it. So each
  chunk is probed first (Pages.has); if it is cold, we stop asking for room, have a thread read
  it, and go on when it is there.
- Twisted stops asking for room when its own buffer is empty; there may still be a file to send.
- The TLS wrapper passes on attributes that it does not know, so `hasattr(t, "send_file")` is true
  of a TLS connection, and would send clear text on it. Only `type(t) is SendfileServer` is right.
"""

import os
from typing import Any

import attrs
from twisted.internet import main, tcp
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.listen.meter import Meter
from mirrord.listen.pages import Pages

CHUNK_BYTES = 512 * 1024


@attrs.define(eq=False)
class _Sending:
    """A stretch of a file that is on its way."""

    fd: int
    offset: int
    stop: int
    done: Deferred[None]
    warm_until: int = 0
    is_warming: bool = False


class SendfileServer(Meter, tcp.Server):
    """A client's connection over plain TCP."""

    _sending: _Sending | None = None

    def __init__(self, pages: Pages, *args: Any) -> None:
        self._pages = pages
        super().__init__(*args)

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
        if self._sending is not None and not super().is_writing() and not self.disconnecting:
            return self._send_chunk(self._sending)
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

    def _send_chunk(self, sending: _Sending) -> Any:
        stop = min(sending.stop, sending.offset + CHUNK_BYTES)
        if stop > sending.warm_until and not self._pages.has(sending.fd, stop - 1):
            self._warm(sending, stop)
            return None
        try:
            count = os.sendfile(self.fileno(), sending.fd, sending.offset, stop - sending.offset)
        except BlockingIOError:
            return None
        except (ConnectionError, TimeoutError):
            return main.CONNECTION_LOST
        except OSError:
            return self._give_up(sending, Failure())
        if count == 0:
            return self._give_up(sending, Failure(EOFError(f"the file ends at {sending.offset}")))
        self.handed_over += count
        sending.offset += count
        if sending.offset == sending.stop:
            self._sending = None
            self.stopWriting()
            sending.done.callback(None)
        return None

    def _give_up(self, sending: _Sending, failure: Failure) -> Any:
        self._sending = None
        sending.done.errback(failure)
        return main.CONNECTION_DONE

    def _warm(self, sending: _Sending, stop: int) -> None:
        sending.is_warming = True
        self.stopWriting()

        def go_on(_: object) -> None:
            # Even if the read failed: sendfile meets the same error, and knows what to do.
            sending.is_warming = False
            sending.warm_until = stop
            if self._sending is sending:
                self.startWriting()

        self._pages.warm(sending.fd, sending.offset, stop).addBoth(go_on)

    def _stop_sending(self, _: Deferred[None]) -> None:
        # What was written before may still have to leave; Twisted stops asking for room after that.
        self._sending = None
