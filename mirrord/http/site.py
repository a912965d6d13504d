"""MirrorSite: the HTTP server of one listener, with limits to its connections.

When there are as many connections as allowed, the one that has waited longest for a request is closed for a
new one: clients reconnect without an error when an idle connection is closed, and a client that occupies
the table with connections that request nothing loses them. Connections with a request in progress are never
closed for others, which one client could use to end everyone's downloads; so each client is limited to half
of the connections.
"""

from collections import Counter
from email.utils import formatdate
from itertools import islice
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.logger import Logger
from twisted.web.http import HTTPFactory
from twisted.web.resource import IResource, getChildForRequest

from mirrord.config.addresses import client_network
from mirrord.http.channel import MirrorChannel
from mirrord.http.forwarded import NO_ADDRESS, TrustedProxies, address_of
from mirrord.http.head_budget import HeadBudget
from mirrord.http.request import MirrorRequest
from mirrord.observe.access_log import AccessLog
from mirrord.observe.disk_errors import DiskErrorLog


@attrs.frozen(kw_only=True)
class ConnectionLimits:
    """The limits of connections: timeouts, and their number in total and from one client."""

    stall_seconds: float = 900.0
    head_seconds: float = 20.0
    idle_seconds: float = 120.0
    closing_seconds: float = 10.0
    upload_seconds: float = 60.0
    connections: int = 4096
    connections_per_peer: int = 2048


_MAX_CANDIDATES = 16
"""How many connections are considered for closing, at most, when a new one arrives."""


class MirrorSite(HTTPFactory):
    """The HTTP server behind one port, whose requests are rendered by the tree of `resource`.

    Twisted's own Site would bring sessions, an access log of its own and errors in HTML. `resource` and
    `limits` may be replaced at any time, which a configuration reload does. Sites may share `heads`.
    """

    protocol = MirrorChannel  # type: ignore[assignment]
    noisy = False

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        resource: IResource,
        *,
        limits: ConnectionLimits | None = None,
        access_log: AccessLog | None = None,
        proxies: TrustedProxies | None = None,
        is_proxied: bool = False,
        heads: HeadBudget | None = None,
    ) -> None:
        super().__init__(timeout=None, reactor=reactor)  # type: ignore[arg-type]
        self.resource = resource
        self.limits = limits or ConnectionLimits()
        self.access_log = access_log
        self.proxies = proxies or TrustedProxies()
        self.is_proxied = is_proxied
        self.heads = heads or HeadBudget()
        self.disk_errors = DiskErrorLog(reactor)
        self.address: str | None = None  # host and port, once it listens; systemd: endpoints do not name them
        self.is_listening = False
        self.is_draining = False
        self._channels: dict[MirrorChannel, str | None] = {}
        self._waiting: dict[MirrorChannel, None] = {}  # in the order in which their last request ended
        self._peers: Counter[str | None] = Counter()
        self._next_check: IDelayedCall | None = None
        self._drained: Deferred[None] | None = None
        self._date = (-1, b"")
        self._has_logged_untrusted = False

    @property
    def connections(self) -> int:
        """The number of connected clients."""
        return len(self._channels)

    def getResourceFor(self, request: MirrorRequest) -> IResource:
        """Return the resource for a request's path, found as Twisted's Site finds it."""
        resource: IResource = getChildForRequest(self.resource, request)
        return resource

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a channel for a new connection; None, which closes it, for an untrusted proxy."""
        if self.is_proxied and not self.proxies.trusts(address_of(addr)):
            self._log_untrusted(address_of(addr))
            return None
        channel: Any = super().buildProtocol(addr)
        channel.site = self
        channel.requestFactory = MirrorRequest
        return channel

    def startFactory(self) -> None:
        """Note that the port is open. There is no log file to open, and no timer without connections."""
        self.is_listening = True

    def stopFactory(self) -> None:
        """Note that the port is closed. Its connections stay, until they are drained."""
        self.is_listening = False

    def log(self, request: Any) -> None:
        """Log a request that has ended; called by Twisted after a complete response, else by the request."""
        ended, request.ended = request.ended, None
        if ended is not None:
            ended(self.now() - request.received_at)
        if self.access_log is not None and self.access_log.path is not None:
            self.access_log.add(request.access())

    def now(self) -> float:
        """Return the reactor's time in seconds."""
        return self.reactor.seconds()

    def date(self) -> bytes:
        """Return the value of the Date header (RFC 9110, section 5.6.7), which is formatted once a second."""
        now = int(self.reactor.seconds())
        if self._date[0] != now:
            self._date = (now, formatdate(now, usegmt=True).encode("ascii"))
        return self._date[1]

    def admit(self, channel: MirrorChannel) -> bool:
        """Count a connection, and return True, if the limits allow one more; close an idle one if needed.

        A client is counted by its network. A trusted proxy has no limit of its own, but counts against the
        total.
        """
        address = address_of(channel.getPeer())
        peer = None if address == NO_ADDRESS or self.proxies.trusts(address) else client_network(address)
        is_crowded = peer is not None and self._peers[peer] >= self.limits.connections_per_peer
        if self.is_draining or is_crowded or not self._has_room():
            return False
        self._channels[channel] = peer
        self._waiting[channel] = None
        self._peers[peer] += 1
        if self._next_check is None:
            self._next_check = self.reactor.callLater(1, self._check)
        return True

    def release(self, channel: MirrorChannel) -> None:
        """Stop counting a connection; one that was not admitted is ignored."""
        if channel not in self._channels:
            return
        peer = self._channels.pop(channel)
        self._waiting.pop(channel, None)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]
        if self._channels:
            return
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = None
        self._fire_drained()

    def request_began(self, channel: MirrorChannel) -> None:
        """Note that a connection has a request in progress."""
        self._waiting.pop(channel, None)

    def request_ended(self, channel: MirrorChannel) -> None:
        """Note that a connection waits for its next request."""
        if channel in self._channels:
            self._waiting[channel] = None

    def drain(self) -> Deferred[None]:
        """Serve no new requests; fires when all responses are complete and all clients disconnected.

        Call it once, when the port is closed, and `abort_connections` when it has taken long enough.
        """
        self.is_draining = True
        drained = self._drained = Deferred()
        for channel in list(self._channels):
            channel.drain()
        if not self._channels:
            self._fire_drained()
        return drained

    def abort_connections(self) -> None:
        """Close every connection before its response is complete: by a FIN, and a second later by a reset.

        A client starts over if it is reset in the middle of a blob, but resumes after a FIN.
        """
        for channel in list(self._channels):
            channel.abort()
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = self.reactor.callLater(1, self._reset_connections)

    def _has_room(self) -> bool:
        """Return whether one more connection is allowed, after closing the longest idle one if necessary.

        One whose last response is still being sent is not idle, and is considered last the next time.
        """
        if len(self._channels) < self.limits.connections:
            return True
        for channel in list(islice(self._waiting, _MAX_CANDIDATES)):
            if not channel.is_sending:
                self.release(channel)
                channel.transport.abortConnection()
                return True
            self._waiting[channel] = self._waiting.pop(channel)
        return False

    def _log_untrusted(self, address: str) -> None:
        if not self._has_logged_untrusted:
            self._has_logged_untrusted = True
            self._log.warn(
                "connection from {address} rejected: not in trusted_proxies; others are not logged",
                address=address,
            )

    def _reset_connections(self) -> None:
        self._next_check = None
        for channel in list(self._channels):
            channel.transport.abortConnection()

    def _fire_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _check(self) -> None:
        self._next_check = self.reactor.callLater(1, self._check)
        now = self.now()
        for channel in list(self._channels):
            channel.check(now)
