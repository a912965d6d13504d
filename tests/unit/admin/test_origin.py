"""Tests of mirrord/admin/origin.py."""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.origin import require_local_origin
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.http.site import MirrorSite
from mirrord.oci.errors import Denied
from tests.fakes.resources import CallbackResource
from tests.fakes.wire import Client, Wire, read_answers

LOOPBACK = IPv4Address("TCP", "127.0.0.1", 4000)


def respond(request: MirrorRequest) -> None:
    """Respond with 200 if a request is accepted."""
    try:
        require_local_origin(request)
    except Denied as error:
        request.respond(Response.of_error(error))
    else:
        request.respond(Response.of_json({}))


class OriginTests(SynchronousTestCase):
    def status(
        self, peer: object, host: str | None = "127.0.0.1:5001", method: str = "GET", *more: str
    ) -> int:
        client = Client(MirrorSite(Clock(), CallbackResource(respond)), Wire(peerAddress=peer, lenient=True))
        lines = [f"{method} /why HTTP/1.{0 if host is None else 1}", *more]
        if host is not None:
            lines.append(f"Host: {host}")
        client.send("\r\n".join([*lines, "", ""]).encode())
        return read_answers(client.wire.value())[0].status

    def test_peers(self) -> None:
        """Requests are accepted from this host only, over any address or socket."""
        for peer, status in {
            LOOPBACK: 200,
            IPv4Address("TCP", "127.8.8.8", 1): 200,
            IPv6Address("TCP", "::1", 1): 200,
            IPv6Address("TCP", "::ffff:127.0.0.1", 1): 200,
            UNIXAddress("/run/mirrord.sock"): 200,
            UNIXAddress(None): 200,
            IPv4Address("TCP", "192.168.1.7", 1): 403,
            IPv6Address("TCP", "fe80::1%eth0", 1): 403,
            IPv6Address("TCP", "::ffff:10.0.0.1", 1): 403,
        }.items():
            self.assertEqual(status, self.status(peer), peer)

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
            self.assertEqual(status, self.status(LOOPBACK, host), host)
        self.assertEqual(403, self.status(LOOPBACK, None))
        self.assertEqual(200, self.status(UNIXAddress(None), "mirrord"))

    def test_changes(self) -> None:
        """A request that changes something needs a header that a web page cannot send."""
        for method in ("POST", "DELETE"):
            self.assertEqual(403, self.status(LOOPBACK, "localhost", method))
            self.assertEqual(403, self.status(LOOPBACK, "localhost", method, "Mirrord-Command: 0"))
            self.assertEqual(200, self.status(LOOPBACK, "localhost", method, "Mirrord-Command: 1"))
        self.assertEqual(403, self.status(UNIXAddress(None), "localhost", "POST"))
