"""Tests of mirrord/observe/systemd.py."""

import socket
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.observe.systemd import IDLE_SECONDS, Heartbeat, Notifier, watchdog_seconds
from tests.fakes.logged import Logged


class NotifierTests(SynchronousTestCase):
    def listen(self, address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        manager.bind(address)
        manager.setblocking(False)
        self.addCleanup(manager.close)
        return manager

    def test_messages(self) -> None:
        """Each message is one datagram in the form of sd_notify(3)."""
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
        """An address that begins with @ is an abstract socket."""
        name = f"mirrord-test-{id(self)}"
        manager = self.listen(f"\0{name}")

        Notifier.of({"NOTIFY_SOCKET": f"@{name}"}).ready()

        self.assertEqual(manager.recv(100), b"READY=1")

    def test_no_manager(self) -> None:
        """Without a manager, or with one that is gone, nothing happens."""
        Notifier.of({}).ready()
        Notifier.of({"NOTIFY_SOCKET": ""}).ready()
        Notifier.of({"NOTIFY_SOCKET": str(Path(self.mktemp()))}).ready()

    def test_busy_manager(self) -> None:
        """A manager that does not read does not block."""
        path = self.mktemp()
        self.listen(path)
        notifier = Notifier(path)
        for _ in range(10_000):
            notifier.alive()


class WatchdogTests(SynchronousTestCase):
    def test_interval(self) -> None:
        """The timeout is that of the environment, in seconds."""
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000"}, 7), 30.0)
        self.assertEqual(watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 7), 30.0)

    def test_none(self) -> None:
        """There is no watchdog without a timeout, or with one for another process."""
        self.assertIsNone(watchdog_seconds({}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "0"}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "x"}, 7))
        self.assertIsNone(watchdog_seconds({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "8"}, 7))


@attrs.define(eq=False)
class FakeNotifier:
    """A notifier that records its messages."""

    messages: list[str] = attrs.field(factory=list)

    def alive(self) -> None:
        self.messages.append("alive")

    def status(self, text: str) -> None:
        self.messages.append(text)


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.notifier = FakeNotifier()
        self.problem: str | None = None
        self.line = "all is well"

    def start(self, watchdog_seconds: float | None) -> Heartbeat:
        notifier: Any = self.notifier
        heartbeat = Heartbeat(
            notifier=notifier,
            clock=self.clock,
            watchdog_seconds=watchdog_seconds,
            find_problem=lambda: self.problem,
            describe=lambda: self.line,
        )
        heartbeat.start()
        return heartbeat

    def test_interval(self) -> None:
        """The watchdog is notified three times in its timeout, and at once at the start."""
        self.start(6.0)
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.notifier.messages.count("alive"), 4)

    def test_problem(self) -> None:
        """The watchdog is not notified while there is a problem, which is logged once."""
        logged = Logged.during(self, "mirrord.observe.systemd")
        self.start(6.0)
        self.problem = "the disk hangs"
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.notifier.messages.count("alive"), 1)
        self.assertEqual(logged.messages, ["systemd watchdog not notified: the disk hangs"])

        self.problem = None
        self.clock.advance(2.0)
        self.assertEqual(self.notifier.messages.count("alive"), 2)

    def test_status(self) -> None:
        """The status line is sent when it has changed, even without a watchdog."""
        heartbeat = self.start(None)
        self.clock.advance(IDLE_SECONDS)
        self.line = "busy"
        self.clock.advance(IDLE_SECONDS)
        heartbeat.stop()
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual(
            [line for line in self.notifier.messages if line != "alive"], ["all is well", "busy"]
        )
