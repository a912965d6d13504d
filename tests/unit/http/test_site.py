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

    def test_forgotten(self) -> None:
        """An address without connections is not stored."""
        self.connect("192.0.2.1").leave()

        self.assertEqual({}, self.site._peers)

    def test_networks(self) -> None:
        """Clients with IPv6 are counted by /64, and one of IPv4 on an IPv6 socket by its own address."""
        crowded = [self.connect(f"2001:db8:0:1::{i}") for i in range(3)]
        self.assertEqual([False, False, True], [client.wire.disconnected for client in crowded])
        for client in crowded[:2]:
            client.leave()

        hosts = ("2001:db8:0:2::1", "::ffff:192.0.2.1", "::ffff:192.0.2.2")
        self.assertEqual([False] * 3, [self.connect(host).wire.disconnected for host in hosts])

    def test_longest_idle(self) -> None:
        """When the table is full, the connection that has waited longest for a request is closed."""
        clients = [self.connect(f"192.0.2.{i}") for i in range(3)]
        clients[0].send(head("/"))
        self.requests.pop().respond(Response.whole(200, b""))
        clients[2].send(b"GET / HTT")

        order = []
        for i in (4, 5, 6):
            self.assertFalse(self.connect(f"192.0.2.{i}").wire.disconnected)
            order += [
                number for number in range(3) if clients[number].wire.disconnected and number not in order
            ]

        self.assertEqual([1, 2, 0], order)
        self.assertEqual(3, self.site.connections)

    def test_busy(self) -> None:
        """A connection is not closed for another while its request is in progress or its response is sent."""
        clients = [self.connect(f"192.0.2.{i}") for i in range(3)]
        clients[0].send(head("/"))
        clients[1].send(head("/", "Content-Length: 5", method="PUT") + b"abc")
        clients[2].send(head("/"))
        self.requests.pop().respond(Response.whole(200, b""))
        clients[2].wire.is_behind = True
        self.assertTrue(self.connect("192.0.2.4").wire.disconnected)

        clients[2].wire.is_behind = False

        self.assertFalse(self.connect("192.0.2.4").wire.disconnected)
        self.assertEqual([False, False, True], [client.wire.disconnected for client in clients])

    def test_refused(self) -> None:
        """A connection that is closing after an early response is closed for another."""
        clients = [self.connect(f"192.0.2.{i}") for i in range(3)]
        for client in clients:
            client.send(head("/", "Content-Length: 5"))

        self.assertFalse(self.connect("192.0.2.4").wire.disconnected)
        self.assertTrue(clients[0].wire.disconnected)

    def test_lost(self) -> None:
        """A connection that was closed for another, and is then lost, is not subtracted twice."""
        clients = [self.connect(f"192.0.2.{i}") for i in range(4)]
        clients[0].leave()

        self.assertEqual(3, self.site.connections)
        self.assertEqual(3, sum(self.site._peers.values()))


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
