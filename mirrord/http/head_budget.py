"""HeadBudget: the memory of the heads of requests, of all listeners together.

A head may have 64 KiB, as podman's ranges and tokens with many scopes need much of that. Four thousand
connections that each send all but the last byte would occupy hundreds of megabytes, and a limit for each
connection that prevented it would refuse podman. So the connections share one budget. A head takes a few
milliseconds to arrive, unless its client withholds the rest: when the budget is exceeded, the connection
whose head began to arrive first is closed.

A complete head stays in memory until its request has ended, which a client can delay by not reading. So it
stays in the budget as well if it is larger than those of real clients. Pipelined requests are part of the
budget until they are parsed.

Bytes alone do not measure it: Twisted keeps a header of 4 bytes in 200.
"""

from typing import Protocol

import attrs

MAX_BYTES = 16 * 1024 * 1024

LARGE_BYTES = 32 * 1024
"""Up to this size a complete head is not counted; podman's with 1,024 ranges takes 24 KiB."""

_REQUEST_BYTES = 2048
"""The memory of a request without headers (measured: 0.9 to 1.7 KiB)."""

_HEADER_BYTES = 200
"""The memory of a header besides its bytes (measured: 194 bytes)."""


def head_memory(size: int, headers: int) -> int:
    """Return the memory of a head of `size` bytes with so many headers."""
    return _REQUEST_BYTES + size + _HEADER_BYTES * headers


class HeadReader(Protocol):
    """A connection, as the budget sees it."""

    def abort_reading(self) -> None:
        """Close the connection and discard what has arrived."""


@attrs.define(eq=False)
class HeadBudget:
    """The counted bytes of connections, in the order in which their heads began; `total` is their sum."""

    max_bytes: int = MAX_BYTES
    total: int = attrs.field(default=0, init=False)
    _sizes: dict[HeadReader, int] = attrs.field(factory=dict, init=False)

    def resize(self, reader: HeadReader, size: int) -> None:
        """Set the bytes that a connection occupies, and keep to the budget."""
        known = self._sizes.get(reader, 0)
        if size == known:
            return
        self.total += size - known
        if size:
            self._sizes[reader] = size
        else:
            del self._sizes[reader]
        while self.total > self.max_bytes:
            oldest = next(iter(self._sizes))
            self.total -= self._sizes.pop(oldest)
            oldest.abort_reading()
