"""MirrorSite: the connections of one listener, and how many there may be."""

from collections import Counter
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.logger import Logger
from twisted.web.http import HTTPFactory
from twisted.web.resource import IResource, getChildForRequest

from mirrord.http.channel import MirrorChannel
from mirrord.http.forwarded import NO_ADDRESS, TrustedProxies, address_of
from mirrord.http.request import MirrorRequest, http_date
from mirrord.observe.access_log import AccessLog


@attrs.frozen
class ConnectionLimits:
    """What a connection may take: seconds, and how many there may be in all and from one address."""

    stall_seconds: float = 900.0
    head_seconds: float = 20.0
    idle_seconds: float = 120.0
    closing_seconds: float = 10.0
    upload_seconds: float = 60.0
    connections: int = 4096
    connections_per_peer: int = 2048


class MirrorSite(HTTPFactory):
    """The HTTP server behind one port, whose requests are rendered by the tree of `resource`.

    Twisted's own Site would bring sessions, an access log of its own and errors in HTML. `resource` and
    `limits` may be replaced at any time, which a configuration reload does.
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
    ) -> None:
        super().__init__(timeout=None, reactor=reactor)  # type: ignore[arg-type]
        self.resource = resource
        self.limits = limits or ConnectionLimits()
        self.access_log = access_log
        self.proxies = proxies or TrustedProxies()
        self.is_proxied = is_proxied
        self.address: str | None = None  # host and port, once it listens: systemd's endpoints do not say
        self.is_listening = False
        self.is_draining = False
        self._channels: dict[MirrorChannel, str | None] = {}
        self._peers: Counter[str | None] = Counter()
        self._next_check: IDelayedCall | None = None
        self._drained: Deferred[None] | None = None
        self._date = (-1, b"")
        self._has_met_stranger = False

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._channels)

    def getResourceFor(self, request: MirrorRequest) -> IResource:
        """Return the resource for a request's path, found as Twisted's Site finds it."""
        resource: IResource = getChildForRequest(self.resource, request)
        return resource

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """A channel for a new connection; None, which closes it, for who may not speak for others."""
        if self.is_proxied and not self.proxies.trusts(address_of(addr)):
            self._tell_stranger(address_of(addr))
            return None
        channel: Any = super().buildProtocol(addr)
        channel.site = self
        channel.requestFactory = MirrorRequest
        return channel

    def startFactory(self) -> None:
        """The port is open: there is no log file to open, and no clock to run while nobody is connected."""
        self.is_listening = True

    def stopFactory(self) -> None:
        """The port is closed; connections outlive it, until they are drained."""
        self.is_listening = False

    def log(self, request: Any) -> None:
        """A request has ended; Twisted calls this for those that were answered, and we for the others."""
        ended, request.ended = request.ended, None
        if ended is not None:
            ended(self.now() - request.received_at)
        if self.access_log is not None and self.access_log.path is not None:
            self.access_log.add(request.access())

    def now(self) -> float:
        """Seconds of the reactor's clock."""
        return self.reactor.seconds()

    def date(self) -> bytes:
        """The Date header, made once a second."""
        now = int(self.reactor.seconds())
        if self._date[0] != now:
            self._date = (now, http_date(now))
        return self._date[1]

    def admit(self, channel: MirrorChannel) -> bool:
        """Whether there is room for one more connection; it is counted if so.

        A proxy that we trust has as many as it likes, within the limit of all.
        """
        address = address_of(channel.getPeer())
        peer = None if address == NO_ADDRESS or self.proxies.trusts(address) else address
        is_crowded = peer is not None and self._peers[peer] >= self.limits.connections_per_peer
        if self.is_draining or is_crowded or len(self._channels) >= self.limits.connections:
            return False
        self._channels[channel] = peer
        self._peers[peer] += 1
        if self._next_check is None:
            self._next_check = self.reactor.callLater(1, self._check)
        return True

    def forget(self, channel: MirrorChannel) -> None:
        """A connection is gone; one that was not admitted may be named too."""
        if channel not in self._channels:
            return
        peer = self._channels.pop(channel)
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]
        if self._channels:
            return
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = None
        self._tell_drained()

    def drain(self) -> Deferred[None]:
        """Take no more requests but those on their way; fires when all are answered and all clients gone.

        Call it once, when the port is closed, and `break_off` when it has taken long enough.
        """
        self.is_draining = True
        drained = self._drained = Deferred()
        for channel in list(self._channels):
            channel.drain()
        if not self._channels:
            self._tell_drained()
        return drained

    def break_off(self) -> None:
        """End every connection: by a FIN, short of what was promised, and in a second by force.

        A client that is reset in the midst of a blob begins anew, where it would go on after a FIN.
        """
        for channel in list(self._channels):
            channel.break_off()
        if self._next_check is not None:
            self._next_check.cancel()
            self._next_check = self.reactor.callLater(1, self._abort)

    def _tell_stranger(self, address: str) -> None:
        if not self._has_met_stranger:
            self._has_met_stranger = True
            self._log.warn(
                "{address} is not among trusted_proxies and was turned away, as all others will be",
                address=address,
            )

    def _abort(self) -> None:
        self._next_check = None
        for channel in list(self._channels):
            channel.transport.abortConnection()

    def _tell_drained(self) -> None:
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.callback(None)

    def _check(self) -> None:
        self._next_check = self.reactor.callLater(1, self._check)
        now = self.now()
        for channel in list(self._channels):
            channel.check(now)
