"""Connections: Twisted's HTTP/1.1 client, with an end to what a server may say before its answer begins.

Twisted bounds a line of a head and not the lines: an upstream could send headers, or 1xx answers, until
our memory is full (design.md, section 3.10). Twisted has no public place for this: the protocol and
the pool's factory are private names, which a test over a real socket holds in place.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory
from twisted.web._newclient import HTTP11ClientProtocol, Request
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import IResponse

MAX_HEAD_BYTES = 64 * 1024
"""Of status lines and headers before a body, and as much again of what came with their last bytes."""

MAX_IDLE_CONNECTIONS = 8
"""Kept open per host, after use."""

IDLE_CONNECTION_SECONDS = 55
"""Most front ends close after 60; we go first."""


class Connection(HTTP11ClientProtocol):
    """One connection, cut when a head goes on for too long."""

    transport: Any
    _head_bytes: int | None = None
    """How much of the awaited head has come; None while no head is awaited."""

    def request(self, request: Request) -> Deferred[IResponse]:
        """Ask; the answer is there when its head is."""
        self._head_bytes = 0
        asking: Deferred[IResponse] = super().request(request)
        return asking.addBoth(self._head_ended)

    def dataReceived(self, data: bytes) -> None:
        """Take what came, and cut the connection if its head is too long."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.transport.abortConnection()

    def _head_ended(self, result: Any) -> Any:
        self._head_bytes = None
        return result


class _Connections(Factory):
    """Makes connections for a pool, without a word to the log."""

    noisy = False

    def __init__(self, quiescent: Callable[[HTTP11ClientProtocol], None], _metadata: object) -> None:
        self._quiescent = quiescent

    def buildProtocol(self, addr: object) -> Connection:
        """A connection that tells the pool when it is free again."""
        return Connection(self._quiescent)  # type: ignore[no-untyped-call]


def connection_pool(reactor: Any) -> HTTPConnectionPool:
    """A pool for the connections of one upstream: to its registry, its token service and its stores."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool._factory = _Connections  # type: ignore[assignment]
    pool.maxPersistentPerHost = MAX_IDLE_CONNECTIONS
    pool.cachedConnectionTimeout = IDLE_CONNECTION_SECONDS
    return pool
