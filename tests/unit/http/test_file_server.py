"""Plain TCP connections send files by sendfile."""

import socket
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import abstract, reactor, tcp
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from mirrord.http.file_server import SendfileServer
from tests.unit.http import file_server_case
from tests.unit.http.file_server_case import CONTENT


class SendfileTests(file_server_case.FileServerTests):
    def make_transport(self) -> Callable[..., Any]:
        return partial(SendfileServer, pages=self.pages)

    async def test_progress(self) -> None:
        """Progress is what the client has acknowledged, and that there is more to send."""
        sending = self.send_file(0, len(CONTENT))
        self.assertEqual((0, True), self.transport.progress())

        received = await deferToThread(self.receive, 1_000_000)
        # The kernel acknowledges later than it delivers, and later still on a busy machine.
        await self.until(lambda: self.transport.progress()[0] >= received)
        reading = ensureDeferred(self.read_all())
        await sending
        self.transport.loseConnection()

        self.assertEqual(len(CONTENT), received + len(await reading))

    async def test_held_by_the_kernel(self) -> None:
        """Bytes in the kernel's buffer are not acknowledged, so a slow reader's progress is seen."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        sending = self.send_file(0, len(CONTENT))
        await deferLater(reactor, 0.1)

        taken, is_behind = self.transport.progress()
        self.assertTrue(is_behind)
        self.assertLess(taken, self.transport.handed_over)

        self.transport.abortConnection()
        await self.assertFailure(sending, Exception)


class TwistedTests(SynchronousTestCase):
    def test_private_parts(self) -> None:
        """The private parts of Twisted's transport that we use exist."""
        for name in (
            "dataBuffer",
            "doWrite",
            "writeSomeData",
            "stopWriting",
            "disconnecting",
        ):
            self.assertTrue(hasattr(tcp.Server, name), name)
        self.assertIn("_tempDataLen", abstract.FileDescriptor.write.__code__.co_names)
