"""A client that sees what a client sees: status, headers, bytes, and whether all of them came.

It blocks, in a thread where several are wanted, and sums with CRC-32: sixteen clients that
compute SHA-256 at 30 MB/s each would need more than one of this machine's cores, and we would
measure them instead of the mirror.
"""

import contextlib
import http.client
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import attrs

_CHUNK = 256 * 1024
_KEPT = 64 * 1024


@attrs.frozen
class Pulled:
    """What a client got; `body` is its first 64 KiB, times are seconds since the request."""

    status: int
    headers: Mapping[str, str]
    size: int
    crc32: int
    is_complete: bool
    first_byte_at: float
    seconds: float
    body: bytes = attrs.field(repr=False)

    def header(self, name: str) -> str:
        """A header's value, empty if absent."""
        return self.headers.get(name.lower(), "")

    @property
    def cache_status(self) -> str:
        return self.header("Cache-Status")


@attrs.define(eq=False)
class Reading:
    """An answer that is being read, by whoever opened it."""

    _response: http.client.HTTPResponse
    _began_at: float
    _connection: http.client.HTTPConnection
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(_CHUNK)), init=False)
    size: int = attrs.field(default=0, init=False)
    crc32: int = attrs.field(default=0, init=False)
    _body: bytes = attrs.field(default=b"", init=False)
    _first_byte_at: float = attrs.field(default=0.0, init=False)

    @classmethod
    def open(
        cls, url: str, headers: Mapping[str, str] | None = None, method: str = "GET", timeout: float = 60
    ) -> "Reading":
        """Send a request and read the headers of its answer."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        began_at = time.monotonic()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers=dict(headers or {}))
        return cls(connection.getresponse(), began_at, connection)

    @property
    def status(self) -> int:
        return self._response.status

    def read_some(self, most: int = _CHUNK) -> int:
        """Read a chunk; 0 at the end, whole or not."""
        try:
            count = self._response.readinto(self._buffer[:most])
        except (http.client.IncompleteRead, ConnectionError):
            return 0
        if count and not self.size:
            self._first_byte_at = time.monotonic() - self._began_at
        chunk = self._buffer[:count]
        self.crc32 = zlib.crc32(chunk, self.crc32)
        if self.size < _KEPT:
            self._body += bytes(chunk[: _KEPT - self.size])
        self.size += count
        return count

    def read_until(self, size: int) -> None:
        """Read until so many bytes have come, or the end."""
        while self.size < size and self.read_some(min(_CHUNK, size - self.size)):
            pass

    def read_all(self) -> Pulled:
        """Read to the end and hang up."""
        with contextlib.closing(self._connection):
            while self.read_some():
                pass
        return self.so_far()

    def so_far(self) -> Pulled:
        """What has come until now."""
        headers = {name.lower(): value for name, value in self._response.getheaders()}
        promised = headers.get("content-length")
        is_complete = self._response.isclosed() if promised is None else int(promised) == self.size
        seconds = time.monotonic() - self._began_at
        return Pulled(
            self.status, headers, self.size, self.crc32, is_complete, self._first_byte_at, seconds, self._body
        )

    def hang_up(self) -> None:
        """Leave, whatever is still to come."""
        self._response.close()
        self._connection.close()


def pull(
    url: str, headers: Mapping[str, str] | None = None, method: str = "GET", timeout: float = 60
) -> Pulled:
    """Read a whole answer."""
    return Reading.open(url, headers, method, timeout).read_all()


def pull_at_once(count: int, url: str) -> list[Pulled]:
    """What `count` clients get who ask in the same moment."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(pull, [url] * count))
