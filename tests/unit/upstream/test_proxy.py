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
from tests.unit.upstream.sockets import REACTOR, Peer, SocketTestCase, http_response, until
from tests.unit.upstream.test_agent import Certificates

APP = RepositoryName("library/app")
BLOB = Digest.of(b"")


class ProxyTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """A proxy's URL is parsed with its account, which is not in the repr."""
        proxy = Proxy.parse("http://me:s3%3Acret@proxy.lan:3128/")
        self.assertEqual(("proxy.lan", 3128, False), (proxy.host, proxy.port, proxy.is_secure))
        self.assertEqual(b"Basic bWU6czM6Y3JldA==", proxy.authorization)
        self.assertNotIn("cret", repr(proxy))
        self.assertEqual(Proxy(host="proxy.lan", port=8080), Proxy.parse("proxy.lan:8080"))
        self.assertEqual(Proxy(host="proxy.lan", port=443, is_secure=True), Proxy.parse("https://proxy.lan"))

    def test_no_proxy_url(self) -> None:
        """A URL that is not of an HTTP proxy is rejected, without repeating it."""
        for url in ("socks5://me:s3cret@proxy", "http://", "http://proxy:port"):
            error = self.assertRaises(ValueError, Proxy.parse, url)
            self.assertNotIn("s3cret", str(error))


class ProxyRulesTests(SynchronousTestCase):
    def choose(self, url: str, configured: str | None = None, **environment: str) -> str | None:
        proxy = ProxyRules.of(configured, environment).choose(WebOrigin.of(url))
        return None if proxy is None else proxy.host

    def test_environment(self) -> None:
        """Each scheme has its own proxy, lowercase before uppercase; without one the connection is direct."""
        both = {"HTTP_PROXY": "http://plain", "HTTPS_PROXY": "http://tls", "https_proxy": "http://lower"}
        self.assertEqual("plain", self.choose("http://a.example", **both))
        self.assertEqual("lower", self.choose("https://a.example", **both))
        self.assertIsNone(self.choose("https://a.example"))

    def test_configured(self) -> None:
        """The configured proxy is used for everything, whatever the environment."""
        no = {"NO_PROXY": "*", "HTTPS_PROXY": "http://other"}
        self.assertEqual("own", self.choose("https://a.example", "http://own", **no))
        self.assertEqual("own", self.choose("http://b.example", "http://own", **no))

    def test_no_proxy(self) -> None:
        """NO_PROXY has hosts, domains, ports, addresses and networks."""
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
    """Connections through a proxy in this process."""

    def proxy(self, status: str = "200 Connection established") -> tuple[list[str], str]:
        """Start a proxy; return the heads of its requests and its URL."""
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
                peer.transport.write(http_response(b"no", status))
                return
            _, target, _ = head.split("\r\n", maxsplit=1)[0].split(" ")
            host, _, port = target.rpartition(":")
            far = Far(peer)
            early: list[bytes] = []
            peer.dataReceived = early.append  # type: ignore[assignment, method-assign]

            def connected(_: object) -> None:
                peer.transport.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
                peer.dataReceived = far.transport.write  # type: ignore[method-assign]

            connectProtocol(TCP4ClientEndpoint(REACTOR, host, int(port)), far).addCallback(connected)

        _, port = self.listen(answer)
        return heads, f"http://me:secret@127.0.0.1:{port}"

    async def test_tunnel(self) -> None:
        """An https upstream is reached by a tunnel, its certificate verified, its connection reused."""
        certificates = Certificates(self.folder())
        server, port = self.listen(
            lambda peer, head: peer.transport.write(http_response(b"blob")), certificates.server
        )
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
        """If the proxy rejects the tunnel the upstream is unreachable; the error has no password."""
        _, url = self.proxy("407 Proxy Authentication Required")
        client = self.client("https://localhost:1", {"HTTPS_PROXY": url})
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertNotIn("secret", str(caught.exception))

    async def test_endless_head(self) -> None:
        """The connection to a proxy is closed after 16 KiB of an endless response head."""

        def answer(peer: Peer, head: str) -> None:
            peer.transport.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3000)

        server, port = self.listen(answer)
        client = self.client("https://localhost:1", {"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with self.assertRaises(UpstreamUnreachable):
            await client.resolve(APP, Tag("latest"), budget_seconds=2, attempts=1)
        await until(lambda: server.peers[0].is_lost)

    async def test_no_protocol(self) -> None:
        """A tunnel for which no protocol can be built is closed, and `connect` fails with the reason."""

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
        """The connection to a proxy that never responds is closed at the end of the budget."""
        server, port = self.listen(lambda peer, head: None)
        client = self.client("https://localhost:1", {"HTTPS_PROXY": f"http://127.0.0.1:{port}"})
        with self.assertRaises(UpstreamTimeout):
            await client.resolve(APP, Tag("latest"), budget_seconds=1, attempts=1)
        await until(lambda: any(peer.is_lost for peer in server.peers))

    async def test_absolute_form(self) -> None:
        """An http upstream is requested by its whole URL, with the proxy's account."""
        heads: list[str] = []

        def answer(peer: Peer, head: str) -> None:
            heads.append(head)
            peer.transport.write(http_response(b"blob"))

        _, port = self.listen(answer)
        client = self.client("http://registry.example", {"HTTP_PROXY": f"http://me:secret@127.0.0.1:{port}"})
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual(b"blob", await body.read())

        self.assertTrue(
            heads[0].startswith(f"GET http://registry.example/v2/library/app/blobs/{BLOB} HTTP/1.1\r\n")
        )
        self.assertIn("Proxy-Authorization: Basic bWU6c2VjcmV0", heads[0])
