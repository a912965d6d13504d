"""Tests of mirrord/http/head_budget.py, and of what a channel counts there."""

import tracemalloc
from collections.abc import Iterable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.channel import MAX_HEAD_BYTES
from mirrord.http.head_budget import HeadBudget
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import MirrorSite
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, head

LARGE = b"GET / HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES - 100)
MANY = b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: %d\r\n" % (number, number) for number in range(490))


class HeadBudgetTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.heads = HeadBudget(max_bytes=1_000_000)
        self.requests: list[MirrorRequest] = []
        self.sites = [
            MirrorSite(Clock(), CallbackResource(self.requests.append), heads=self.heads) for _ in range(2)
        ]

    def connect(self, *sent: bytes, site: int = 0) -> Client:
        client = Client(self.sites[site])
        for data in sent:
            client.send(data)
        return client

    def closed(self, clients: Iterable[Client]) -> list[bool]:
        return [client.wire.disconnected for client in clients]

    def test_budget(self) -> None:
        """The heads of all listeners share one budget; what began first is closed for what comes later."""
        clients = [self.connect(LARGE, site=number % 2) for number in range(40)]

        self.assertLessEqual(self.heads.total, 1_000_000)
        kept = self.closed(clients).count(False)
        self.assertTrue(12 <= kept <= 15, kept)
        self.assertEqual([True] * (40 - kept) + [False] * kept, self.closed(clients))

    def test_large_head_among_them(self) -> None:
        """A head of 60 KiB in two pieces gets its response in the middle of a flood."""
        for _ in range(40):
            self.connect(LARGE)
        client = self.connect(head("/", "X: " + "a" * 60_000)[:-2])
        self.connect(LARGE)

        client.send(b"\r\n")
        self.requests[0].respond(Response.whole(200, b"here"))

        self.assertEqual(b"here", client.got().body)

    def test_memory(self) -> None:
        """Heads occupy at most half as much again as is counted, whatever they consist of."""
        for sent in (LARGE, MANY, b"GET / HTTP/1.1\r\n", b"GET /" + b"a" * 60_000):
            with self.subTest(sent=sent[:40]):
                self.setUp()
                self.heads.max_bytes = 100_000_000
                clients = [self.connect() for _ in range(300)]
                tracemalloc.start()
                for client in clients:
                    client.send(bytes(bytearray(sent)))
                occupied, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                self.assertEqual([False] * 300, self.closed(clients))
                self.assertLessEqual(occupied, 1.5 * self.heads.total)

    def test_complete(self) -> None:
        """Nothing is counted for a complete head, for a body, or for a connection that is lost."""
        client = self.connect(head("/")[:-2])
        self.assertGreater(self.heads.total, 0)
        client.send(b"\r\n")
        self.assertEqual(0, self.heads.total)

        self.connect(head("/", "Content-Length: 100000", method="PUT"), b"a" * 50_000)
        self.assertEqual(0, self.heads.total)

        client = self.connect(LARGE)
        client.leave()
        self.assertEqual(0, self.heads.total)

    def test_large_heads_of_slow_clients(self) -> None:
        """A large head counts until its response is complete; one of a usual size does not."""
        large = head("/", "X: " + "a" * 60_000)
        clients = [self.connect(large) for _ in range(40)]
        self.assertLessEqual(self.heads.total, 1_000_000)
        self.assertEqual([True] * 24 + [False] * 16, self.closed(clients))

        for request in self.requests[-16:]:
            request.respond(Response.whole(200, b""))
        for client in clients[:-16]:
            client.leave()
        self.assertEqual(0, self.heads.total)

        for _ in range(100):
            self.connect(head("/", "X: " + "a" * 20_000))
        self.assertEqual(0, self.heads.total)

    def test_large_head_of_an_upload(self) -> None:
        """A large head counts while its body arrives."""
        client = self.connect(head("/", "X: " + "a" * 60_000, "Content-Length: 5", method="PUT") + b"abc")
        self.assertGreater(self.heads.total, 60_000)

        client.leave()

        self.assertEqual(0, self.heads.total)

    def test_pipelined(self) -> None:
        """Pipelined requests are counted until they are parsed."""
        client = self.connect(head("/"), head("/") + head("/")[:-2])
        self.assertEqual(2 * len(head("/")) - 2, self.heads.total)

        self.requests[0].respond(Response.whole(200, b""))
        self.assertEqual(len(head("/")) - 2, self.heads.total)

        client.send(b"\r\n")
        for request in self.requests[1:]:
            request.respond(Response.whole(200, b""))
        self.requests[2].respond(Response.whole(200, b""))
        self.assertEqual(0, self.heads.total)

    def test_pipelined_beyond(self) -> None:
        """A flood of pipelined requests is closed as well, although a request is in progress."""
        clients = [self.connect(head("/"), b"a" * 200_000) for _ in range(9)]

        self.assertLessEqual(self.heads.total, 1_000_000)
        self.assertEqual(4, self.closed(clients).count(True))
