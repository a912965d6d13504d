"""Tests of mirrord/upstream/agent.py over TLS on loopback."""

from pathlib import Path

import trustme
from OpenSSL import SSL
from twisted.internet.ssl import PrivateCertificate

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from mirrord.upstream.agent import AddedTrust
from tests.unit.upstream.sockets import SocketTestCase, say

APP = RepositoryName("library/app")
BLOB = Digest.of(b"")


class Certificates:
    """An authority of our own, and a server's certificate from it, for `localhost`."""

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
        server, port = self.listen(lambda peer, head: peer.transport.write(say(b"blob", headers=given)))
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
        server, port = self.listen(lambda peer, head: peer.transport.write(say(b"blob")), certificates.server)
        client = self.client(f"https://localhost:{port}", ca=certificates.authority_path)
        body = await client.fetch_blob(APP, BLOB, budget_seconds=5)
        self.assertEqual((b"blob", b""), (await body.read(), await body.read()))
        self.assertIn(b"User-Agent: mirrord", server.peers[0].received)
        self.assertEqual(1, server.peers[0].received.count(b"Accept-Encoding: identity"))

    async def test_unknown_authority(self) -> None:
        """Without it the upstream is unreachable, and the reason is told."""
        certificates = Certificates(self.folder())
        _, port = self.listen(lambda peer, head: None, certificates.server)
        client = self.client(f"https://localhost:{port}")
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertIn("certificate verify failed", str(caught.exception))

    async def test_other_host(self) -> None:
        """A certificate for another host is not taken."""
        certificates = Certificates(self.folder())
        _, port = self.listen(lambda peer, head: None, certificates.server)
        client = self.client(f"https://127.0.0.1:{port}", ca=certificates.authority_path)
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertIn("its certificate is for another host", str(caught.exception))

    def test_added_to_the_system(self) -> None:
        """The system's authorities stay trusted beside ours."""

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
