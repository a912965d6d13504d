"""A site counts its connections, and drains them."""

from ipaddress import ip_network

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.forwarded import TrustedProxies
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import ConnectionLimits, MirrorSite
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, Wire, head


class SiteCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.requests: list[MirrorRequest] = []
        self.site = MirrorSite(
            self.clock,
            CallbackResource(self.requests.append),
            limits=ConnectionLimits(connections=3, connections_per_peer=2),
        )

    def connect(self, host: str) -> Client:
        wire = Wire(lenient=True)
        wire.peerAddr = type(StringTransport().getPeer())("TCP", host, 1)
        return Client(self.site, wire)


class CrowdTests(SiteCase):
    def test_per_peer(self) -> None:
        """One address may not exceed its limit; when one connection closes, another is admitted."""
        first, second, third = [self.connect("192.0.2.1") for _ in range(3)]
        self.assertEqual(
            [False, False, True], [client.wire.disconnected for client in (first, second, third)]
        )

        third.leave()
        first.leave()

        self.assertFalse(self.connect("192.0.2.1").wire.disconnected)

    def test_proxies(self) -> None:
        """A trusted proxy may use all connections."""
        self.site.proxies = TrustedProxies((ip_network("192.0.2.0/24"),))

        self.assertEqual([False] * 3, [self.connect("192.0.2.1").wire.disconnected for _ in range(3)])
        self.assertTrue(self.connect("192.0.2.1").wire.disconnected)

    def test_forgotten(self) -> None:
        """An address without connections is not stored."""
        self.connect("192.0.2.1").leave()

        self.assertEqual({}, self.site._peers)

    def test_in_all(self) -> None:
        """Beyond the total limit, every connection is rejected."""
        clients = [self.connect(f"192.0.2.{i}") for i in range(4)]

        self.assertTrue(clients[3].wire.disconnected)
        self.assertEqual(3, self.site.connections)


class DrainTests(SiteCase):
    def test_idle(self) -> None:
        """An idle connection is closed at once; the drain is over when its client has disconnected."""
        client = self.connect("192.0.2.1")
        client.send(head("/"))
        self.requests[0].respond(Response.whole(200, b""))

        drained = self.site.drain()

        self.assertTrue(client.wire.disconnecting)
        self.assertNoResult(drained)
        client.leave()
        self.successResultOf(drained)

    def test_listening(self) -> None:
        """A site knows whether its port is open."""
        self.assertFalse(self.site.is_listening)
        self.site.doStart()
        self.assertTrue(self.site.is_listening)
        self.site.doStop()
        self.assertFalse(self.site.is_listening)

    def test_running(self) -> None:
        """A running request gets its complete response, and is the last of its connection."""
        client = self.connect("192.0.2.1")
        client.send(head("/"))
        self.site.drain()
        self.assertFalse(client.wire.disconnecting)

        self.requests[0].respond(Response.whole(200, b"all of it"))

        self.assertEqual((b"all of it", "close"), (client.got().body, client.got().headers["connection"]))
        self.assertTrue(client.wire.disconnecting)

    def test_late(self) -> None:
        """A request that arrives after the drain has begun is not served, also behind another one."""
        idle, busy = self.connect("192.0.2.1"), self.connect("192.0.2.2")
        idle.send(head("/"))
        self.requests.pop().respond(Response.whole(200, b""))
        busy.send(head("/"))
        self.site.drain()

        idle.send(head("/"))
        busy.send(head("/"))
        self.requests[0].respond(Response.whole(200, b"the last"))

        self.assertEqual(1, len(self.requests))
        self.assertEqual("close", busy.got().headers["connection"])

    def test_new_connection(self) -> None:
        """A first request that arrives just after the drain has begun is served, and is the last."""
        client = self.connect("192.0.2.1")
        self.site.drain()

        client.send(head("/"))
        self.requests[0].respond(Response.whole(200, b"here"))

        self.assertEqual((b"here", "close"), (client.got().body, client.got().headers["connection"]))
        self.assertTrue(client.wire.disconnecting)

    def test_silent_connection(self) -> None:
        """A connection without a complete request is closed after a moment."""
        silent, slow = self.connect("192.0.2.1"), self.connect("192.0.2.2")
        slow.send(b"GET /")
        self.site.drain()
        self.assertFalse(silent.wire.disconnecting or slow.wire.disconnecting)

        self.clock.pump([1.0, 1.0])

        self.assertTrue(silent.wire.disconnecting and slow.wire.disconnecting)

    def test_nobody(self) -> None:
        """Without connections a drain is over at once."""
        self.successResultOf(self.site.drain())

    def test_abort(self) -> None:
        """Connections are aborted by a FIN; those that are open a second later are reset."""
        client = self.connect("192.0.2.1")
        client.send(head("/"))
        self.site.drain()

        self.site.abort_connections()

        self.assertEqual((True, False), (client.wire.disconnecting, client.wire.disconnected))
        self.clock.advance(1)
        self.assertTrue(client.wire.disconnected)

    def test_abort_leaves_no_timer(self) -> None:
        """When the aborted connections are closed, no timer is left."""
        client = self.connect("192.0.2.1")
        drained = self.site.drain()
        self.site.abort_connections()

        client.leave()

        self.successResultOf(drained)
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_no_more(self) -> None:
        """A connection that arrives during the drain is rejected."""
        self.connect("192.0.2.1").send(head("/"))
        self.site.drain()

        self.assertTrue(self.connect("192.0.2.2").wire.disconnected)
        self.assertEqual(1, self.site.connections)

    def test_date(self) -> None:
        """The Date header follows the clock."""
        self.assertEqual(b"Thu, 01 Jan 1970 00:00:00 GMT", self.site.date())
        self.clock.advance(86_400)
        self.assertEqual(b"Fri, 02 Jan 1970 00:00:00 GMT", self.site.date())
