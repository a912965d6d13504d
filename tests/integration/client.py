"""A blocking HTTP client that records status, headers, content, and whether the body was complete.

Several clients need a thread each. They verify content by CRC-32: sixteen clients that compute SHA-256
at 30 MB/s each would need more than one of two cores, and would be measured instead of the mirror.
"""

import contextlib
import http.client
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit

import attrs

from mirrord.cli.addresses import UnixConnection

_CHUNK = 256 * 1024
_BODY_LIMIT = 64 * 1024


@attrs.frozen
class Pulled:
    """A response; `body` is its first 64 KiB, and times are in seconds since the request."""

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
    """A response whose body is read step by step."""

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
        """Send a request and read the headers of the response; `http+unix://` has a socket as its host."""
        parts = urlsplit(url)
        connection = (
            UnixConnection(unquote(parts.netloc), timeout)
            if parts.scheme == "http+unix"
            else http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
        )
        began_at = time.monotonic()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers=dict(headers or {}))
        return cls(connection.getresponse(), began_at, connection)

    @property
    def status(self) -> int:
        return self._response.status

    def read_some(self, max_size: int = _CHUNK) -> int:
        """Read a chunk and return its size; 0 at the end, even of an incomplete body."""
        try:
            count = self._response.readinto(self._buffer[:max_size])
        except (http.client.IncompleteRead, ConnectionError):
            return 0
        if count and not self.size:
            self._first_byte_at = time.monotonic() - self._began_at
        chunk = self._buffer[:count]
        self.crc32 = zlib.crc32(chunk, self.crc32)
        if self.size < _BODY_LIMIT:
            self._body += bytes(chunk[: _BODY_LIMIT - self.size])
        self.size += count
        return count

    def read_until(self, size: int) -> None:
        """Read until `size` bytes have been received, or the end."""
        while self.size < size and self.read_some(min(_CHUNK, size - self.size)):
            pass

    def read_all(self) -> Pulled:
        """Read to the end and close the connection."""
        with contextlib.closing(self._connection):
            while self.read_some():
                pass
        return self._result()

    def _result(self) -> Pulled:
        headers = {name.lower(): value for name, value in self._response.getheaders()}
        length = headers.get("content-length")
        is_complete = self._response.isclosed() if length is None else int(length) == self.size
        seconds = time.monotonic() - self._began_at
        return Pulled(
            self.status, headers, self.size, self.crc32, is_complete, self._first_byte_at, seconds, self._body
        )

    def hang_up(self) -> None:
        """Close the connection, even before the end."""
        self._response.close()
        self._connection.close()


def pull(
    url: str, headers: Mapping[str, str] | None = None, method: str = "GET", timeout: float = 60
) -> Pulled:
    """Send a request and read the whole response."""
    return Reading.open(url, headers, method, timeout).read_all()


def pull_at_once(count: int, url: str) -> list[Pulled]:
    """Send the same request from `count` clients at the same time."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(pull, [url] * count))
