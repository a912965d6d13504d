"""Tests of mirrord/admin/origin.py."""

import os
import socket
from pathlib import Path
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.origin import PeerCredentials, refuse_web_pages, require_unix_socket
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import MirrorSite
from mirrord.oci.errors import Denied
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, Got, Wire, read_answers

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 4000)


class OriginCase(SynchronousTestCase):
    def check(self, request: MirrorRequest) -> None:
        """Raise Denied if a request is refused."""
        raise NotImplementedError

    def respond(self, request: MirrorRequest) -> None:
        try:
            self.check(request)
        except Denied as error:
            request.respond(Response.of_error(error))
        else:
            request.respond(Response.of_json({}))

    def send(self, wire: Wire, *headers: str, version: str = "1.1") -> Got:
        client = Client(MirrorSite(Clock(), CallbackResource(self.respond)), wire)
        client.send("\r\n".join([f"GET /why HTTP/{version}", *headers, "", ""]).encode())
        return read_answers(client.wire.value())[0]


class SocketTests(OriginCase):
    def setUp(self) -> None:
        self.peers: list[PeerCredentials] = []

    def check(self, request: MirrorRequest) -> None:
        self.peers.append(require_unix_socket(request, Path("/run/mirrord/command")))

    def connect(self, family: socket.AddressFamily, peer: object) -> Wire:
        connection: Any = socket.socket(family)
        if family == socket.AF_UNIX:
            connection, other = socket.socketpair()
            self.addCleanup(other.close)
        self.addCleanup(connection.close)
        wire = Wire(peerAddress=peer, lenient=True)
        wire.socket = connection
        return wire

    def test_unix(self) -> None:
        """A command over a Unix socket is accepted, and the kernel reports who has connected."""
        wire = self.connect(socket.AF_UNIX, UNIXAddress(None))
        self.assertEqual(200, self.send(wire, "Host: localhost").status)
        self.assertEqual([PeerCredentials(os.getpid(), os.getuid())], self.peers)

    def test_tcp(self) -> None:
        """A command over TCP is refused, from this host and from others, and the answer names the socket."""
        for family, peer in {
            socket.AF_INET: LOOPBACK,
            socket.AF_INET6: IPv6Address("TCP", "::1", 1),
        }.items():
            for header in ("Host: 127.0.0.1", "Host: localhost\r\nX-Forwarded-For: 127.0.0.1"):
                got = self.send(self.connect(family, peer), header)
                self.assertEqual(403, got.status, peer)
                self.assertIn(b"commands are accepted at the Unix socket /run/mirrord/command only", got.body)
        self.assertEqual(403, self.send(Wire(peerAddress=UNIXAddress(None), lenient=True), "Host: x").status)
        self.assertEqual([], self.peers)


class WebPageTests(OriginCase):
    def check(self, request: MirrorRequest) -> None:
        refuse_web_pages(request)

    def status(self, peer: object, *headers: str, version: str = "1.1") -> int:
        return self.send(Wire(peerAddress=peer, lenient=True), *headers, version=version).status

    def test_hosts(self) -> None:
        """A host name that foreign DNS may have pointed to this host is rejected (DNS rebinding)."""
        for host, status in {
            "127.0.0.1:5001": 200,
            "localhost": 200,
            "LOCALHOST:5001": 200,
            "[::1]:5001": 200,
            "10.0.0.1": 200,
            "evil.example:5001": 403,
            "localhost.evil.example": 403,
            "127.0.0.1.evil.example": 403,
            "": 403,
        }.items():
            for peer in (LOOPBACK, IPv6Address("TCP", "::ffff:127.0.0.1", 1)):
                self.assertEqual(status, self.status(peer, f"Host: {host}"), host)
        self.assertEqual(403, self.status(LOOPBACK, version="1.0"))

    def test_other_peers(self) -> None:
        """Other hosts and Unix sockets, which no page reaches by such a name, may use any."""
        for peer in (IPv4Address("TCP", "10.0.0.7", 1), UNIXAddress(None)):
            self.assertEqual(200, self.status(peer, "Host: mirror.lan"))
