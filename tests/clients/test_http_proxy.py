"""Upstreams behind a real forward proxy, Debian's tinyproxy."""

import shutil
import socket
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from tests.fakes.images import make_image
from tests.fakes.registry import FakeRegistry
from tests.unit.upstream.sockets import REACTOR, SocketTestCase, http_response, until
from tests.unit.upstream.test_agent import Certificates

TINYPROXY = shutil.which("tinyproxy")
APP = RepositoryName("library/app")

_CONFIGURATION = """
Port {port}
Listen 127.0.0.1
Timeout 60
MaxClients 20
Allow 127.0.0.1
BasicAuth me secret
LogFile "{log}"
LogLevel Connect
"""


class _Process(ProcessProtocol):
    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None)


class TinyproxyTests(SocketTestCase):
    """tinyproxy requires an account and logs the requests that it forwards."""

    if TINYPROXY is None:
        skip = "tinyproxy is not installed"

    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        folder = self.folder()
        self.log = folder / "log"
        self.port = _free_port()
        configuration = folder / "tinyproxy.conf"
        configuration.write_text(_CONFIGURATION.format(port=self.port, log=self.log.absolute()))
        process = _Process()
        arguments = [str(TINYPROXY), "-d", "-c", str(configuration)]
        running: Any = REACTOR.spawnProcess(process, arguments[0], arguments)

        def stop() -> Deferred[None]:
            running.signalProcess("TERM")
            return process.ended

        self.addCleanup(stop)
        return Deferred.fromCoroutine(until(self._is_listening))

    def _is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _proxy(self, account: str = "me:secret@") -> str:
        return f"http://{account}127.0.0.1:{self.port}"

    async def test_connect(self) -> None:
        """An https upstream is reached through CONNECT."""
        certificates = Certificates(self.folder())
        _, port = self.listen(
            lambda peer, head: peer.transport.write(http_response(b"blob")), certificates.server
        )
        client = self.client(
            f"https://localhost:{port}", {"HTTPS_PROXY": self._proxy()}, ca=certificates.authority_path
        )
        body = await client.fetch_blob(APP, Digest.of(b"blob"), budget_seconds=5)
        self.assertEqual((b"blob", b""), (await body.read(), await body.read()))
        self.assertIn(f"CONNECT localhost:{port}", self.log.read_text())

    async def test_absolute_form(self) -> None:
        """An http upstream is requested by absolute URLs: registry, token service and CDN."""
        registry = FakeRegistry(REACTOR)
        image = make_image([1_000_000])
        registry.put(image)
        await registry.up()
        self.addCleanup(lambda: Deferred.fromCoroutine(registry.down()))
        client = self.client(registry.url, {"http_proxy": self._proxy()})
        manifest = await client.fetch_manifest(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertEqual(image.manifest.content, manifest.body)
        body = await client.fetch_blob(APP, Digest.parse(image.layers[0].digest), budget_seconds=5)
        content = b""
        while chunk := await body.read():
            content += chunk

        self.assertEqual(image.layers[0].content, content)
        log = self.log.read_text()
        for origin in (registry.url, registry.realm_url, registry.cdn_url):
            self.assertIn(f"GET {origin}/", log)
        await client.close()

    async def test_without_an_account(self) -> None:
        """The upstream is unreachable if the proxy requires an account and none is configured."""
        client = self.client("https://localhost:1", {"HTTPS_PROXY": self._proxy("")})
        with self.assertRaises(UpstreamUnreachable) as caught:
            await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
        self.assertIn("407", str(caught.exception))

    async def test_exempt(self) -> None:
        """Hosts in NO_PROXY are reached directly."""
        server, port = self.listen(lambda peer, head: peer.transport.write(http_response(b"blob")))
        environment = {"HTTP_PROXY": self._proxy(), "NO_PROXY": "127.0.0.0/8"}
        client = self.client(f"http://127.0.0.1:{port}", environment)
        body = await client.fetch_blob(APP, Digest.of(b"blob"), budget_seconds=5)
        self.assertEqual(b"blob", await body.read())
        self.assertEqual(1, len(server.peers))
        self.assertNotIn(f":{port}", self.log.read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
