"""Tests of mirrord/upstream/agent.py over TLS on loopback."""

from pathlib import Path

import trustme
from OpenSSL import SSL
from twisted.internet.ssl import PrivateCertificate

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from mirrord.upstream.agent import MAX_HEAD_BYTES, AddedTrust
from tests.unit.upstream.sockets import REACTOR, Peer, SocketTestCase, http_response, until

APP = RepositoryName("library/app")
BLOB = Digest.of(b"")


class Certificates:
    """A private authority and a server certificate of it for `localhost`."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
        own = authority.issue_cert("localhost")
        chain = b"".join(blob.bytes() for blob in own.cert_chain_pems)
        self.server = PrivateCertificate.loadPEM(own.private_key_pem.bytes() + chain).options()
        self.authority_path = folder / "authority.pem"
        self.authority_path.write_bytes(authority.cert_pem.bytes())


class CookieTests(SocketTestCase):
    async def test_no_cookies(self) -> None:
        """A cookie that an upstream sets is never sent back."""
        given = "Set-Cookie: session=1; Path=/; Max-Age=3600\r\n"
        server, port = self.listen(
            lambda peer, head: peer.transport.write(http_response(b"blob", headers=given))
        )
        client = self.client(f"http://localhost:{port}")
        for _ in range(2):
            body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
            self.assertEqual((b"blob", b""), (await body.read(), await body.read()))

        received = b"".join(peer.received for peer in server.peers)
        self.assertEqual(2, received.count(b"GET /v2/"))
        self.assertNotIn(b"cookie", received.lower())


class TrustTests(SocketTestCase):
    async def test_own_authority(self) -> None:
        """The configured authority is trusted."""
        certificates = Certificates(self.folder())
        server, port = self.listen(
            lambda peer, head: peer.transport.write(http_response(b"blob")), certificates.server
        )
        client = self.client(f"https://localhost:{port}", ca=certificates.authority_path)
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual((b"blob", b""), (await body.read(), await body.read()))
        self.assertIn(b"User-Agent: mirrord", server.peers[0].received)
        self.assertEqual(1, server.peers[0].received.count(b"Accept-Encoding: identity"))

    async def test_unknown_authority(self) -> None:
        """With an unknown authority the upstream is unreachable, and the error has the reason."""
        certificates = Certificates(self.folder())
        _, port = self.listen(lambda peer, head: None, certificates.server)
        client = self.client(f"https://localhost:{port}")
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertIn("certificate verify failed", str(caught.exception))

    async def test_other_host(self) -> None:
        """A certificate for another host is rejected."""
        certificates = Certificates(self.folder())
        _, port = self.listen(lambda peer, head: None, certificates.server)
        client = self.client(f"https://127.0.0.1:{port}", ca=certificates.authority_path)
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertIn("its certificate is for another host", str(caught.exception))

    def test_added_to_the_system(self) -> None:
        """The system's authorities are trusted as well as the configured one."""

        class Recorder(SSL.Context):
            def __init__(self) -> None:
                super().__init__(SSL.TLS_CLIENT_METHOD)
                self.calls: list[str] = []

            def set_default_verify_paths(self) -> None:
                self.calls.append("system")

            def load_verify_locations(self, cafile: object, capath: object = None) -> None:
                self.calls.append(str(cafile))

        context = Recorder()
        AddedTrust(Path("/own.pem"))._addCACertsToContext(context)
        self.assertEqual(["system", "/own.pem"], context.calls)


class HeadTests(SocketTestCase):
    async def test_endless_heads(self) -> None:
        """The connection of an endless head, of headers or interim responses, is closed at the limit."""
        for start, more in (
            (b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"p" * 1000 + b"\r\n"),
            (b"", b"HTTP/1.1 103 Early\r\nLink: </>\r\n\r\n" * 20),
        ):
            written = 0

            def answer(peer: Peer, head: str, start: bytes = start, more: bytes = more) -> None:
                peer.transport.write(start)

                def write_more() -> None:
                    nonlocal written
                    if not peer.is_lost and written < 100 * MAX_HEAD_BYTES:
                        peer.transport.write(more)
                        written += len(more)
                        REACTOR.callLater(0, write_more)

                write_more()

            server, port = self.listen(answer)
            client = self.client(f"http://127.0.0.1:{port}")
            with self.assertRaises(UpstreamUnreachable):
                await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
            await until(lambda server=server: all(peer.is_lost for peer in server.peers))  # type: ignore[misc]

            self.assertLess(written, 50 * MAX_HEAD_BYTES)

    async def test_long_heads(self) -> None:
        """Long heads within the limit are accepted, several on one connection."""
        padding = "".join(f"X-{place}: {'p' * 1000}\r\n" for place in range(40))
        server, port = self.listen(
            lambda peer, head: peer.transport.write(http_response(b"b" * 200_000, headers=padding))
        )
        client = self.client(f"http://127.0.0.1:{port}")
        for _ in range(3):
            body = await client.fetch_blob(APP, Digest.of(b""), budget_seconds=5)
            size = 0
            while chunk := await body.read():
                size += len(chunk)
            self.assertEqual(200_000, size)
        self.assertEqual(1, len(server.peers))
