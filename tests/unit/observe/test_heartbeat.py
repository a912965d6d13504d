"""The watchdog is fed while a restart would cure nothing."""

from typing import Any

import attrs
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from mirrord.observe.heartbeat import IDLE_SECONDS, Heartbeat


@attrs.define(eq=False)
class Manager:
    """A notifier that remembers what it was told."""

    told: list[str] = attrs.field(factory=list)

    def alive(self) -> None:
        self.told.append("alive")

    def status(self, text: str) -> None:
        self.told.append(text)


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.manager = Manager()
        self.trouble: str | None = None
        self.line = "all is well"

    def start(self, watchdog_seconds: float | None) -> Heartbeat:
        notifier: Any = self.manager
        heart = Heartbeat(notifier, self.clock, watchdog_seconds, lambda: self.trouble, lambda: self.line)
        heart.start()
        return heart

    def test_fed_in_time(self) -> None:
        """The watchdog is fed three times in its interval, and at once at the start."""
        self.start(6.0)
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.manager.told.count("alive"), 4)

    def test_not_fed_in_trouble(self) -> None:
        """In trouble it is not fed, and the log says why once; when that is over it is fed again."""
        said: list[str] = []

        @provider(ILogObserver)
        def observe(event: LogEvent) -> None:
            said.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        self.start(6.0)
        self.trouble = "the disk hangs"
        self.clock.pump([2.0] * 3)
        self.assertEqual(self.manager.told.count("alive"), 1)
        self.assertEqual(said, ["the watchdog is not fed: the disk hangs"])

        self.trouble = None
        self.clock.advance(2.0)
        self.assertEqual(self.manager.told.count("alive"), 2)

    def test_status_when_it_changed(self) -> None:
        """How we do is told when it has changed, without a watchdog too."""
        heart = self.start(None)
        self.clock.advance(IDLE_SECONDS)
        self.line = "busy"
        self.clock.advance(IDLE_SECONDS)
        heart.stop()
        self.clock.advance(IDLE_SECONDS)
        self.assertEqual([line for line in self.manager.told if line != "alive"], ["all is well", "busy"])
