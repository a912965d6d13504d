"""Tests of mirrord/upstream/connection.py over real sockets."""

from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamUnreachable
from mirrord.oci.names import RepositoryName, Tag
from mirrord.upstream.connection import MAX_HEAD_BYTES
from tests.unit.upstream.sockets import REACTOR, Peer, SocketTestCase, say, until

APP = RepositoryName("library/app")


class HeadTests(SocketTestCase):
    async def test_endless_heads(self) -> None:
        """A head without end, of headers or of interim answers, is cut off at its limit."""
        for start, more in (
            (b"HTTP/1.1 200 OK\r\n", b"X-Padding: " + b"p" * 1000 + b"\r\n"),
            (b"", b"HTTP/1.1 103 Early\r\nLink: </>\r\n\r\n" * 20),
        ):
            written = 0

            def answer(peer: Peer, head: str, start: bytes = start, more: bytes = more) -> None:
                peer.transport.write(start)

                def go_on() -> None:
                    nonlocal written
                    if not peer.is_lost and written < 100 * MAX_HEAD_BYTES:
                        peer.transport.write(more)
                        written += len(more)
                        REACTOR.callLater(0, go_on)

                go_on()

            server, port = self.listen(answer)
            client = self.client(f"http://127.0.0.1:{port}")
            with self.assertRaises(UpstreamUnreachable):
                await client.resolve(APP, Tag("latest"), budget_seconds=5, attempts=1)
            await until(lambda server=server: all(peer.is_lost for peer in server.peers))  # type: ignore[misc]

            self.assertLess(written, 50 * MAX_HEAD_BYTES)

    async def test_long_heads(self) -> None:
        """A long head within the limit is read, again and again on one connection."""
        padding = "".join(f"X-{place}: {'p' * 1000}\r\n" for place in range(40))
        server, port = self.listen(
            lambda peer, head: peer.transport.write(say(b"b" * 200_000, headers=padding))
        )
        client = self.client(f"http://127.0.0.1:{port}")
        for _ in range(3):
            body = await client.fetch_blob(APP, Digest.of(b""), budget_seconds=5)
            size = 0
            while chunk := await body.read():
                size += len(chunk)
            self.assertEqual(200_000, size)
        self.assertEqual(1, len(server.peers))
