"""The service starts completely or not at all, reloads in one step, and drains without losing data."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from mirrord.config.config import (
    Config,
    ConfigError,
    GCConfig,
    HostedConfig,
    ListenConfig,
    LogConfig,
    StoreConfig,
)
from mirrord.daemon.generation import Generation
from mirrord.daemon.listeners import Listener
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.service import MirrorService
from mirrord.http.site import ConnectionLimits
from mirrord.observe.access_log import AccessLog
from mirrord.observe.logs import Logs
from mirrord.observe.metrics import Metrics
from mirrord.store.threads import DiskThreads

DRAIN_SECONDS = 30.0
CONFIG = Config(store=StoreConfig(Path("/store")), gc=GCConfig(interval=60.0), drain_timeout=DRAIN_SECONDS)
CLIENTS, ADMIN = "tcp:5000", "tcp:5001"


@attrs.define(eq=False)
class Part:
    """A part that is started and stopped: it records when, and may fail or never finish."""

    name: str
    journal: list[str]
    failure: Exception | None = None
    hangs: bool = False

    def _note(self, event: str) -> "Deferred[None]":
        self.journal.append(f"{self.name} {event}")
        if self.failure is not None:
            raise self.failure
        return Deferred() if self.hangs else succeed(None)

    def start(self) -> None:
        self._note("starts")

    def close(self) -> Any:
        return self._note("closes")

    def reload(self) -> None:
        self._note("reloads")


@attrs.define(eq=False)
class Site(Part):
    address: str | None = None
    resource: Any = None
    limits: ConnectionLimits | None = None

    def abort_connections(self) -> None:
        self.journal.append(f"{self.name} aborted")

    def drain(self) -> "Deferred[None]":
        return self._note("drains")


@attrs.define(eq=False)
class Store(Part):
    eviction: None = None
    hosted_gc: None = None
    damaged: "Deferred[str]" = attrs.field(factory=Deferred)

    async def close(self) -> None:
        await self._note("closes")


class Pool(Part):
    def stop(self) -> None:
        self._note("stops")


@attrs.define(eq=False)
class Collector(Part):
    interval_seconds: float | None = None

    def configure(self, limits: object, interval_seconds: float) -> None:
        self.interval_seconds = interval_seconds

    def stop(self) -> "Deferred[None]":
        return self._note("stops")


class Downloads(Part):
    async def stop(self) -> None:
        await self._note("park")


@attrs.frozen
class Root:
    """A root resource, which is not rendered here."""

    config: Config


@implementer(IListeningPort)
@attrs.define(eq=False)
class Port:
    name: str
    journal: list[str]
    listening: Any = attrs.field(factory=socket.socket)

    def startListening(self) -> None:
        """It listens from the start."""

    def getHost(self) -> Any:
        """The address is not used."""

    def fileno(self) -> int:
        return self.listening.fileno()  # type: ignore[no-any-return]

    def stopListening(self) -> "Deferred[None]":
        self.journal.append(f"{self.name} closes")
        self.listening.close()
        return succeed(None)


@attrs.define(eq=False)
class Notifier:
    """Records what systemd is notified of."""

    journal: list[str]

    def ready(self) -> None:
        self.journal.append("systemd hears ready")

    def reloading(self, monotonic_seconds: float) -> None:
        self.journal.append("systemd hears reloading")

    def stopping(self) -> None:
        self.journal.append("systemd hears stopping")


class Reactor(Clock):
    """A clock, and ports of which one may be in use."""

    def __init__(self, journal: list[str]) -> None:
        super().__init__()
        self.journal = journal
        self.in_use: int | None = None
        self.is_stopped = False

    def callWhenRunning(self, act: Callable[[], object]) -> None:
        act()

    def stop(self) -> None:
        if self.is_stopped:
            raise ReactorNotRunning
        self.is_stopped = True
        self.journal.append("reactor stops")

    def listenTCP(self, port: int, factory: Any, backlog: int, interface: str) -> Port:
        if port == self.in_use:
            raise CannotListenError(interface, port, OSError(98, "Address already in use"))
        return Port(f"port {port}", self.journal)


class ServiceCase(SynchronousTestCase):
    def setUp(self) -> None:
        journal: list[str] = []
        self.journal = journal
        self.reactor = Reactor(journal)
        self.pool, self.site = Pool("pool", journal), Site("site", journal)
        self.collector, self.downloads = Collector("collector", journal), Downloads("downloads", journal)
        self.certificates, self.store = Part("certificates", journal), Store("store", journal)
        self.upstream = Part("upstream", journal)
        self.metrics = Metrics(version="1")
        self.exits: list[tuple[float, Callable[[], str | None]]] = []
        self.configurations: list[Config | ConfigError] = []
        self.build_error: ConfigError | None = None
        self.patch(Generation, "build", self.build)
        self.service = MirrorService(
            config=CONFIG,
            open_runtime=self.open_runtime,
            read_config=self.read_config,
            exit_after=self.exit_after,
            fail_at_exit=self.fail_at_exit,
        )
        self.lines: list[str] = []
        self.failures = 0
        observer: Any = self.observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def open_runtime(self, config: Config) -> Runtime:
        part: Any = Part("unused", self.journal)
        runtime: Callable[..., Runtime] = Runtime
        listener: Callable[..., Listener] = Listener
        return runtime(
            reactor=self.reactor,
            environment={},
            logs=Logs.of_process({}),
            notifier=Notifier(self.journal),
            metrics=self.metrics,
            access_log=AccessLog(self.reactor, part),
            pages=None,
            threads=DiskThreads(self.reactor),
            pools=(self.pool,),
            store=self.store,
            probe=part,
            collector=self.collector,
            cache_writer=part,
            confirmation=part,
            hints=part,
            downloads=self.downloads,
            references=Pool("references", self.journal),
            upstreams={},
            caches=part,
            last_clients=part,
            access=part,
            listeners=(listener(endpoint=CLIENTS, site=self.site, certificates=self.certificates),),
            command_socket=Path("/store/command"),
            admin=(listener(endpoint=ADMIN, site=Site("admin", self.journal)),),
            background=(self.collector,),
        )

    def build(self, runtime: Runtime, config: Config) -> Generation:
        if self.build_error is not None:
            raise self.build_error
        root: Any = Root(config)
        upstream: Any = self.upstream
        operations: Any = None
        return Generation(config=config, upstreams={"x.io": upstream}, roots=(root,), operations=operations)

    def read_config(self) -> Config:
        config = self.configurations.pop(0)
        if isinstance(config, ConfigError):
            raise config
        return config

    def exit_after(self, seconds: float, find_problem: Callable[[], str | None]) -> None:
        self.exits.append((seconds, find_problem))

    def fail_at_exit(self) -> None:
        self.journal.append("failure at exit")

    def observe(self, event: Any) -> None:
        self.lines.append(formatEvent(event))
        self.failures += "log_failure" in event

    def start(self) -> None:
        self.service.privilegedStartService()
        self.service.startService()
        self.journal.clear()

    @property
    def served(self) -> Config:
        """The configuration whose root answers at the clients' listener."""
        return self.site.resource.config  # type: ignore[no-any-return]


class StartTests(ServiceCase):
    def refused(self) -> str:
        return str(self.assertRaises(SystemExit, self.service.privilegedStartService))

    def test_order(self) -> None:
        """The ports are bound and answered at before any background task starts."""
        self.service.privilegedStartService()
        self.assertEqual([], self.journal)
        self.assertEqual(CONFIG, self.served)

        self.service.startService()

        self.assertEqual(["pool starts", "collector starts", "systemd hears ready"], self.journal)

    def test_port_in_use(self) -> None:
        """A port that cannot be bound ends the start with one line that names it."""
        self.reactor.in_use = 5000

        self.assertEqual("mirrord: cannot listen at tcp:5000: Address already in use", self.refused())

    def test_unreadable(self) -> None:
        """A file that cannot be read ends the start with one line that names only it."""

        def open_runtime(config: Config) -> Runtime:
            raise PermissionError(13, "Permission denied", "key.pem")

        self.service = MirrorService(
            config=CONFIG,
            open_runtime=open_runtime,
            read_config=self.read_config,
            exit_after=self.exit_after,
            fail_at_exit=self.fail_at_exit,
        )

        self.assertEqual("mirrord: cannot start: [Errno 13] Permission denied: 'key.pem'", self.refused())

    def test_no_generation(self) -> None:
        """A configuration from which no generation can be built ends the start with its error."""
        self.build_error = ConfigError(["access: Permission denied"])

        self.assertEqual("mirrord: cannot start: access: Permission denied", self.refused())


class ReloadTests(ServiceCase):
    NOTIFIED = ("systemd hears reloading", "systemd hears ready")

    def test_accepted(self) -> None:
        """The new configuration is in effect, and a warning names each key that needs a restart."""
        self.start()
        requested = attrs.evolve(
            CONFIG,
            store=StoreConfig(Path("/elsewhere")),
            listen=(ListenConfig(stall_timeout=1.0),),
            gc=GCConfig(interval=2.0),
            hosted=HostedConfig(upload_timeout=3.0),
            log=LogConfig(access=Path("/access.log")),
            drain_timeout=4.0,
        )
        self.configurations = [requested]

        self.service.reload()

        self.assertEqual([self.NOTIFIED[0], "certificates reloads", self.NOTIFIED[1]], self.journal)
        self.assertIn("store.path has changed and takes effect after a restart", self.lines)
        merged = attrs.evolve(requested, store=CONFIG.store)
        self.assertEqual(merged, self.served)
        self.assertEqual(merged, self.service.generation.config)
        self.assertEqual(ConnectionLimits(stall_seconds=1.0, upload_seconds=3.0), self.site.limits)
        self.assertEqual(2.0, self.collector.interval_seconds)
        self.assertEqual(Path("/access.log"), self.service.runtime.access_log.path)
        self.site.hangs = True
        self.service.stopService()
        self.reactor.advance(4)
        self.assertIn("site aborted", self.journal)

    def test_upstreams(self) -> None:
        """The client of a changed upstream is replaced and closed; an unchanged one stays as it is."""
        self.start()
        first = self.upstream
        self.configurations = [CONFIG, CONFIG]
        self.service.reload()
        self.assertNotIn("upstream closes", self.journal)

        self.upstream = Part("new", self.journal)
        self.service.reload()

        self.assertIn("upstream closes", self.journal)
        upstreams: Any = self.service.runtime.upstreams
        self.assertEqual({"x.io": self.upstream}, upstreams)
        self.assertNotIn(first, upstreams.values())

    def test_errors(self) -> None:
        """Every error of a configuration is logged, and the previous one stays in effect."""
        self.start()
        self.configurations = [ConfigError(["store.path: 1", "gc: 2"])]

        self.service.reload()

        self.assertEqual(list(self.NOTIFIED), self.journal)
        self.assertIn("reload rejected: store.path: 1", self.lines)
        self.assertIn("reload rejected: gc: 2", self.lines)
        self.assertEqual(CONFIG, self.served)

    def test_no_generation(self) -> None:
        """A configuration from which no generation can be built changes nothing."""
        self.start()
        generation = self.service.generation
        self.configurations = [attrs.evolve(CONFIG, drain_timeout=1.0, gc=GCConfig(interval=2.0))]
        self.build_error = ConfigError(["access: Permission denied"])

        self.service.reload()

        self.assertEqual(list(self.NOTIFIED), self.journal)
        self.assertIn("reload rejected: access: Permission denied", self.lines)
        self.assertEqual(CONFIG, self.served)
        self.assertIs(generation, self.service.generation)
        self.assertEqual(CONFIG.gc.interval, self.collector.interval_seconds)

    def test_while_draining(self) -> None:
        """A reload is ignored once the drain has begun."""
        self.start()
        self.site.hangs = True
        self.service.stopService()
        self.journal.clear()

        self.service.reload()

        self.assertEqual([], self.journal)


class DrainTests(ServiceCase):
    ORDER = (
        "systemd hears stopping",
        "port 5000 closes",
        "site drains",
        "collector stops",
        "references stops",
        "downloads park",
        "upstream closes",
        "store closes",
        "port 5001 closes",
        "admin aborted",
        "pool stops",
    )

    def test_order(self) -> None:
        """The ports close first, then clients, downloads, upstreams and the store; the admin port last."""
        self.start()

        self.successResultOf(self.service.stopService())

        self.assertEqual(list(self.ORDER), self.journal)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_failing(self) -> None:
        """A step that fails is logged, and the others run."""
        self.start()
        self.downloads.failure = RuntimeError("broken")

        self.successResultOf(self.service.stopService())

        self.assertEqual(list(self.ORDER), self.journal)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_hanging(self) -> None:
        """A step that times out is logged in one line, and the others run."""
        self.start()
        self.downloads.hangs = True

        drained = self.service.stopService()
        self.reactor.advance(4.9)
        self.assertNoResult(drained)
        self.reactor.advance(0.1)

        self.successResultOf(drained)
        self.assertEqual(list(self.ORDER), self.journal)
        self.assertIn("stopping downloads took more than 5 s", self.lines)
        self.assertEqual(0, self.failures)

    def test_a_damaged_index(self) -> None:
        """A damaged index stops the reactor and makes the exit a failure, and one line says so."""
        self.start()

        self.store.damaged.callback("malformed")

        self.assertEqual(["failure at exit", "reactor stops"], self.journal)
        (line,) = [line for line in self.lines if "malformed" in line]
        self.assertIn("mirrord exits with a failure", line)

    def test_a_damaged_index_while_draining(self) -> None:
        """A drain that has begun is not begun again; the exit is a failure."""
        self.start()
        self.successResultOf(self.service.stopService())
        self.journal.clear()

        self.store.damaged.callback("malformed")

        self.assertEqual(["failure at exit"], self.journal)
        self.assertEqual(0, self.failures)

    def test_a_damaged_index_after_a_signal(self) -> None:
        """Damage that is found when the reactor was stopped already makes the exit a failure."""
        self.start()
        self.reactor.stop()

        self.store.damaged.callback("malformed")

        self.assertEqual(["reactor stops", "failure at exit"], self.journal)

    def test_slow_clients(self) -> None:
        """Running requests get `drain_timeout` to finish, and then their connections are aborted."""
        self.start()
        self.site.hangs = True

        drained = self.service.stopService()
        self.reactor.advance(DRAIN_SECONDS - 1)
        self.assertNotIn("site aborted", self.journal)
        self.reactor.advance(1)
        self.assertIn("site aborted", self.journal)
        self.assertNoResult(drained)
        self.reactor.advance(5)

        self.successResultOf(drained)
        self.assertIn("finishing running requests took more than 35 s", self.lines)

    def test_exit(self) -> None:
        """From the beginning of a drain on, the process exits 8 s after `drain_timeout` whatever hangs."""
        self.start()
        self.assertEqual([], self.exits)

        self.successResultOf(self.service.stopService())

        self.assertEqual([DRAIN_SECONDS + 8], [seconds for seconds, _ in self.exits])
        self.assertIsNone(self.exits[0][1]())

    def test_abort_connections(self) -> None:
        """Connections can be aborted before `drain_timeout` has passed."""
        self.start()
        self.site.hangs = True
        self.service.stopService()

        self.service.abort_connections()

        self.assertIn("site aborted", self.journal)
