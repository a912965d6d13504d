"""What systemd is told, as it would hear it."""

import socket
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.systemd import Notifier, watchdog_seconds


class NotifierTests(SynchronousTestCase):
    def listen(self, address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(address)
        manager.setblocking(False)
        self.addCleanup(manager.close)
        return manager

    def test_messages(self) -> None:
        """Each message is one datagram in the words of sd_notify(3)."""
        path = self.mktemp()
        manager = self.listen(path)
        notifier = Notifier.of({"NOTIFY_SOCKET": path})

        notifier.ready()
        notifier.alive()
        notifier.reloading(12.5)
        notifier.status("two\nlines")
        notifier.stopping()

        self.assertEqual(
            [manager.recv(100) for _ in range(5)],
            [
                b"READY=1",
                b"WATCHDOG=1",
                b"RELOADING=1\nMONOTONIC_USEC=12500000",
                b"STATUS=two lines",
                b"STOPPING=1",
            ],
        )

    def test_abstract_name(self) -> None:
        """An address that begins with @ is a name without a file."""
        name = f"mirrord-test-{id(self)}"
        manager = self.listen(f"\0{name}")

        Notifier.of({"NOTIFY_SOCKET": f"@{name}"}).ready()

        self.assertEqual(manager.recv(100), b"READY=1")

    def test_nobody(self) -> None:
        """Without a manager, or with one that has gone, nothing happens."""
        Notifier.of({}).ready()
        Notifier.of({"NOTIFY_SOCKET": ""}).ready()
        Notifier.of({"NOTIFY_SOCKET": str(Path(self.mktemp()))}).ready()

    def test_deaf_manager(self) -> None:
        """A manager that does not read is not waited for."""
        path = self.mktemp()
        self.listen(path)
        notifier = Notifier(path)
        for _ in range(10_000):
            notifier.alive()


class WatchdogTests(SynchronousTestCase):
    def test_interval(self) -> None:
        """The interval is that of the environment, in seconds."""
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000"}, 7), 30.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7), 30.0)

    def test_none(self) -> None:
        """Nobody waits where no interval is given, or it is meant for another process."""
        self.assertIsNone(watchdog_seconds({}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "0"}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "x"}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}, 7))
