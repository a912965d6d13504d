"""Tests of mirrord/upstream/proxy.py."""

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import NoProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamTimeout, UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.proxy import Proxy, ProxyRules, TunnelEndpoint
from tests.unit.upstream.sockets import REACTOR, Peer, SocketTestCase, say, until
from tests.unit.upstream.test_agent import Certificates

APP = RepositoryName("library/app")
BLOB = Digest.of(b"")


class ProxyTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """A proxy's URL is read with its account, which it does not show."""
        proxy = Proxy.parse("http://me:s3%3Acret@proxy.lan:3128/")
        self.assertEqual(("proxy.lan", 3128, False), (proxy.host, proxy.port, proxy.is_secure))
        self.assertEqual(b"Basic bWU6czM6Y3JldA==", proxy.authorization)
        self.assertNotIn("cret", repr(proxy))
        self.assertEqual(Proxy(host="proxy.lan", port=8080), Proxy.parse("proxy.lan:8080"))
        self.assertEqual(Proxy(host="proxy.lan", port=443, is_secure=True), Proxy.parse("https://proxy.lan"))

    def test_no_proxy_url(self) -> None:
        """What is no URL of an HTTP proxy is refused, and not repeated."""
        for url in ("socks5://me:s3cret@proxy", "http://", "http://proxy:port"):
            error = self.assertRaises(ValueError, Proxy.parse, url)
            self.assertNotIn("s3cret", str(error))


class ProxyRulesTests(SynchronousTestCase):
    def choose(self, url: str, configured: str | None = None, **environment: str) -> str | None:
        proxy = ProxyRules.of(configured, environment).choose(WebOrigin.of(url))
        return None if proxy is None else proxy.host

    def test_environment(self) -> None:
        """Each scheme has its own proxy, in lowercase before uppercase; without any the way is direct."""
        both = {"HTTP_PROXY": "http://plain", "HTTPS_PROXY": "http://tls", "https_proxy": "http://lower"}
        self.assertEqual("plain", self.choose("http://a.example", **both))
        self.assertEqual("lower", self.choose("https://a.example", **both))
        self.assertIsNone(self.choose("https://a.example"))

    def test_configured(self) -> None:
        """The configured proxy leads everywhere, whatever the environment says."""
        no = {"NO_PROXY": "*", "HTTPS_PROXY": "http://other"}
        self.assertEqual("own", self.choose("https://a.example", "http://own", **no))
        self.assertEqual("own", self.choose("http://b.example", "http://own", **no))

    def test_no_proxy(self) -> None:
        """NO_PROXY names hosts, domains, ports, addresses and networks."""
        words = "localhost, .lan,example.com,*.corp ,b.example:5000,10.0.0.0/8,::1"
        for url in (
            "http://localhost:5000",
            "https://x.lan",
            "https://example.com",
            "https://a.example.com",
            "https://x.corp",
            "http://b.example:5000",
            "http://10.2.3.4",
            "http://[::1]:80",
        ):
            self.assertIsNone(
                self.choose(url, HTTP_PROXY="http://p", HTTPS_PROXY="http://p", NO_PROXY=words), url
            )
        for url in ("https://notexample.com", "http://b.example", "http://11.0.0.1", "https://a.example"):
            self.assertEqual("p", self.choose(url, HTTP_PROXY="p", HTTPS_PROXY="p", NO_PROXY=words), url)


class TunnelTests(SocketTestCase):
    """Through a proxy in this process."""

    def proxy(self, status: str = "200 Connection established") -> tuple[list[str], str]:
        """A proxy that leads every tunnel to its target; the heads it saw, and where it is."""
        heads: list[str] = []

        class Far(Protocol):
            transport: Any

            def __init__(self, peer: Peer) -> None:
                self.peer = peer

            def dataReceived(self, data: bytes) -> None:
                self.peer.transport.write(data)

            def connectionLost(self, reason: object = None) -> None:
                self.peer.transport.loseConnection()

        def answer(peer: Peer, head: str) -> None:
            heads.append(head)
            if not status.startswith("200"):
                peer.transport.write(say(b"no", status))
                return
            _, target, _ = head.split("\r\n", maxsplit=1)[0].split(" ")
            host, _, port = target.rpartition(":")
            far = Far(peer)
            held: list[bytes] = []
            peer.dataReceived = held.append  # type: ignore[assignment, method-assign]

            def connected(_: object) -> None:
                peer.transport.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
                peer.dataReceived = far.transport.write  # type: ignore[method-assign]

            connectProtocol(TCP4ClientEndpoint(REACTOR, host, int(port)), far).addCallback(connected)

        _, port = self.listen(answer)
        return heads, f"http://me:secret@127.0.0.1:{port}"

    async def test_tunnel(self) -> None:
        """A https upstream is spoken to through a tunnel, its certificate checked; connections are kept."""
        certificates = Certificates(self.folder())
        server, port = self.listen(lambda peer, head: peer.transport.write(say(b"blob")), certificates.server)
        heads, url = self.proxy()
        client = self.client(
            f"https://localhost:{port}", {"HTTPS_PROXY": url}, ca=certificates.authority_path
        )
        for _ in range(2):
            body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
            self.assertEqual((b"blob", b""), (await body.read(), await body.read()))

        self.assertEqual(1, len(heads))
        self.assertTrue(
            heads[0].startswith(f"CONNECT localhost:{port} HTTP/1.1\r\nHost: localhost:{port}\r\n")
        )
        self.assertIn("Proxy-Authorization: Basic bWU6c2VjcmV0", heads[0])
        self.assertNotIn(b"Proxy-Authorization", server.peers[0].received)

    async def test_refused(self) -> None:
        """A proxy that refuses the tunnel makes the upstream unreachable, and says with which status."""
        _, url = self.proxy("407 Proxy Authentication Required")
        client = self.client("https://localhost:1", {"HTTPS_PROXY": url})
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertNotIn("secret", str(caught.exception))

    async def test_endless_reply(self) -> None:
        """A proxy whose reply has no end is left after 16 KiB of it."""

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000)

        server, port = self.listen(answer)
        client = self.client("https://localhost:1", {"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with self.assertRaises(UpstreamUnreachable):
            await client.resolve(APP, Tag("latest"), budget_seconds=2, attempts=1)
        await until(lambda: server.peers[0].is_lost)

    async def test_no_protocol(self) -> None:
        """A tunnel that nobody wants to enter, or can, is closed, and whoever waits is told why."""

        class Refusing(Factory):
            def buildProtocol(self, addr: object) -> None:
                raise LookupError("no protocol")

        class Declining(Factory):
            def buildProtocol(self, addr: object) -> None:
                return None

        server, port = self.listen(lambda peer, head: peer.transport.write(b"HTTP/1.1 200 OK\r\n\r\n"))
        proxy = Proxy(host="127.0.0.1", port=port)
        endpoint = TunnelEndpoint(
            TCP4ClientEndpoint(REACTOR, proxy.host, port), proxy, WebOrigin.of("https://registry.example")
        )
        for factory, error in ((Refusing(), LookupError), (Declining(), NoProtocol)):
            with self.assertRaises(error):
                await endpoint.connect(factory)
        await until(lambda: all(peer.is_lost for peer in server.peers))

    async def test_hanging(self) -> None:
        """A proxy that never answers is left at the end of the budget."""
        server, port = self.listen(lambda peer, head: None)
        client = self.client("https://localhost:1", {"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with self.assertRaises(UpstreamTimeout):
            await client.resolve(APP, Tag("latest"), budget_seconds=0.2, attempts=1)
        await until(lambda: server.peers[0].is_lost)

    async def test_absolute_form(self) -> None:
        """A http upstream is asked for by its whole URL, with the proxy's account."""
        heads: list[str] = []

        def answer(peer: Peer, head: str) -> None:
            heads.append(head)
            peer.transport.write(say(b"blob"))

        _, port = self.listen(answer)
        client = self.client("http://registry.example", {"HTTP_PROXY": f"http://me:secret@127.0.0.1:{port}"})
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual(b"blob", await body.read())

        self.assertTrue(
            heads[0].startswith(f"GET http://registry.example/v2/library/app/blobs/{BLOB} HTTP/1.1\r\n")
        )
        self.assertIn("Proxy-Authorization: Basic bWU6c2VjcmV0", heads[0])
