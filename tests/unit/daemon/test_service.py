"""The service starts all of it or nothing, and drains in an order that loses nothing."""

import socket
from collections.abc import Callable
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mirrord.config.config import ConfigError
from mirrord.daemon.service import Listener, MirrorService, Parts, Reloaded

DRAIN_SECONDS = 30.0
CLIENTS, ADMIN = "tcp:5000", "tcp:5001"


@attrs.define(eq=False)
class Part:
    """Anything that is started and stopped: it writes down when, and may fail or take for ever."""

    name: str
    journal: list[str]
    failure: Exception | None = None
    hangs: bool = False
    address: str | None = None

    def _note(self, what: str) -> "Deferred[None]":
        self.journal.append(f"{self.name} {what}")
        if self.failure is not None:
            raise self.failure
        return Deferred() if self.hangs else succeed(None)

    def start(self) -> None:
        self._note("starts")

    async def close(self) -> None:
        await self._note("closes")

    def break_off(self) -> None:
        self.journal.append(f"{self.name} broken off")

    def drain(self) -> "Deferred[None]":
        return self._note("drains")


class Pool(Part):
    def stop(self) -> None:
        self._note("stops")


class Collector(Part):
    def stop(self) -> "Deferred[None]":
        return self._note("stops")


class Puller(Part):
    async def stop(self) -> None:
        await self._note("parks")


@implementer(IListeningPort)
@attrs.define(eq=False)
class Port:
    name: str
    journal: list[str]
    listening: Any = attrs.field(factory=socket.socket)

    def startListening(self) -> None:
        """It listens from the beginning."""

    def getHost(self) -> Any:
        """Nobody asks."""

    def fileno(self) -> int:
        return self.listening.fileno()  # type: ignore[no-any-return]

    def stopListening(self) -> "Deferred[None]":
        self.journal.append(f"{self.name} closes")
        self.listening.close()
        return succeed(None)


@attrs.define(eq=False)
class Manager:
    """What systemd hears."""

    journal: list[str]

    def ready(self) -> None:
        self.journal.append("manager hears ready")

    def reloading(self, monotonic_seconds: float) -> None:
        self.journal.append("manager hears reloading")

    def stopping(self) -> None:
        self.journal.append("manager hears stopping")


class Reactor(Clock):
    """A clock, and ports of which some are taken."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal
        self.taken: int | None = None

    def callWhenRunning(self, act: Callable[[], object]) -> None:
        act()

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> Port:
        if port == self.taken:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return Port(f"port {port}", self.journal)


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        journal: list[str] = []
        self.journal = journal
        self.reactor = Reactor(journal)
        self.pool, self.site = Pool("pool", journal), Part("site", journal)
        self.collector, self.puller = Collector("collector", journal), Puller("puller", journal)
        self.upstream, self.store = Part("upstream", journal), Part("store", journal)
        parts: Callable[..., Any] = Parts
        listener: Callable[..., Any] = Listener
        self.parts = parts(
            (listener(CLIENTS, self.site),),
            listener(ADMIN, Part("admin", journal)),
            (self.pool,),
            None,
            (self.collector,),
            self.puller,
            self.store,
            lambda: (self.upstream,),
            Manager(journal),
            self.reread,
            DRAIN_SECONDS,
        )
        self.reloaded: Reloaded | ConfigError = Reloaded(DRAIN_SECONDS)
        self.service = MirrorService(self.reactor, lambda: self.parts)
        self.lines: list[str] = []
        self.failures = 0
        observer: Any = self.observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def observe(self, event: Any) -> None:
        self.lines.append(formatEvent(event))
        self.failures += "log_failure" in event

    def reread(self) -> Reloaded:
        if isinstance(self.reloaded, ConfigError):
            raise self.reloaded
        return self.reloaded

    def start(self) -> None:
        self.service.privilegedStartService()
        self.service.startService()
        self.journal.clear()


class StartTests(ServiceCase):
    def refused(self) -> str:
        return str(self.assertRaises(SystemExit, self.service.privilegedStartService))

    def test_order(self) -> None:
        """Nothing runs in the background before the ports are bound."""
        self.service.privilegedStartService()
        self.assertEqual([], self.journal)

        self.service.startService()

        self.assertEqual(["pool starts", "collector starts", "manager hears ready"], self.journal)

    def test_taken_port(self) -> None:
        """A port that cannot be bound ends the start with one line that names it."""
        self.reactor.taken = 5000

        self.assertEqual("mirrord: cannot listen at tcp:5000: Address already in use", self.refused())

    def test_unreadable(self) -> None:
        """A file that cannot be read ends the start with one line that names it, and blames nothing else."""

        def assemble() -> Parts:
            raise PermissionError(13, "Permission denied", "key.pem")

        self.service = MirrorService(self.reactor, assemble)

        self.assertEqual("mirrord: cannot start: [Errno 13] Permission denied: 'key.pem'", self.refused())


class ReloadTests(ServiceCase):
    HEARD = ("manager hears reloading", "manager hears ready")

    def test_taken(self) -> None:
        """What has changed is in effect, and what needs a restart is named in a warning."""
        self.start()
        self.reloaded = Reloaded(1.0, ("store.path",))

        self.service.reload()

        self.assertEqual(list(self.HEARD), self.journal)
        self.assertIn("store.path has changed: that needs a restart", self.lines)
        self.site.hangs = True
        self.service.stopService()
        self.reactor.advance(1)
        self.assertIn("site broken off", self.journal)

    def test_wrong(self) -> None:
        """Of a configuration that is wrong every line is logged, and the service is ready as before."""
        self.start()
        self.reloaded = ConfigError(["store.path: 1", "gc: 2"])

        self.service.reload()

        self.assertEqual(list(self.HEARD), self.journal)
        self.assertIn("the configuration is not taken: store.path: 1", self.lines)
        self.assertIn("the configuration is not taken: gc: 2", self.lines)

    def test_while_draining(self) -> None:
        """There is no reload once the drain has begun."""
        self.start()
        self.site.hangs = True
        self.service.stopService()
        self.journal.clear()

        self.service.reload()

        self.assertEqual([], self.journal)


class DrainTests(ServiceCase):
    ORDER = (
        "manager hears stopping",
        "port 5000 closes",
        "site drains",
        "collector stops",
        "puller parks",
        "upstream closes",
        "store closes",
        "port 5001 closes",
        "admin broken off",
        "pool stops",
    )

    def test_order(self) -> None:
        """No one new, then the clients, then what downloads, then the disk; the admin's port to the last."""
        self.start()

        self.successResultOf(self.service.stopService())

        self.assertEqual(list(self.ORDER), self.journal)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_failing(self) -> None:
        """A step that fails is logged, and the others are taken."""
        self.start()
        self.puller.failure = RuntimeError("broken")

        self.successResultOf(self.service.stopService())

        self.assertEqual(list(self.ORDER), self.journal)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_hanging(self) -> None:
        """A step that does not end is given up after its time, in one line, and the others are taken."""
        self.start()
        self.puller.hangs = True

        drained = self.service.stopService()
        self.reactor.advance(4.9)
        self.assertNoResult(drained)
        self.reactor.advance(0.1)

        self.successResultOf(drained)
        self.assertEqual(list(self.ORDER), self.journal)
        self.assertIn("parking downloads took more than 5 s", self.lines)
        self.assertEqual(0, self.failures)

    def test_slow_clients(self) -> None:
        """Clients are waited for as long as was configured, and then broken off."""
        self.start()
        self.site.hangs = True

        drained = self.service.stopService()
        self.reactor.advance(DRAIN_SECONDS - 1)
        self.assertNotIn("site broken off", self.journal)
        self.reactor.advance(1)
        self.assertIn("site broken off", self.journal)
        self.assertNoResult(drained)
        self.reactor.advance(5)

        self.successResultOf(drained)
        self.assertIn("answering clients took more than 35 s", self.lines)

    def test_hurry(self) -> None:
        """Who is in a hurry breaks clients off before their time."""
        self.start()
        self.site.hangs = True
        self.service.stopService()

        self.service.hurry()

        self.assertIn("site broken off", self.journal)
