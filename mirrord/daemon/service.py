"""The service: an ordered start, a reload, an ordered drain.

Twisted's MultiService starts and stops all its children at once and looks at no Deferred; the order
is all that matters here. Up: the store, then the ports (a port that cannot be bound ends the start
before anything is served), then what runs in the background. Down: the ports, then the clients that
are being answered (for `drain_timeout`), then the downloads, which are parked, then the store.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.threadpool import ThreadPool

from mirrord.config.config import ConfigError
from mirrord.http.certificates import Certificates
from mirrord.http.page_cache import PageCache
from mirrord.http.port import open_port
from mirrord.http.site import MirrorSite
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.observe.events import Event
from mirrord.observe.systemd import Notifier

_STEP_SECONDS = 5.0
"""For a step of the drain that has no time of its own; whatever is cut off is safe on the disk."""


class Background(Protocol):
    """What runs beside the ports."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> Any:
        """End; may return something to wait for."""


class Closeable(Protocol):
    """What is closed in the end."""

    def close(self) -> Any:
        """Let go of it; may return something to wait for."""


@attrs.frozen
class Listener:
    """A port to be opened: where, for whom, and with which certificates, if it speaks TLS.

    `mode` is who may connect to a Unix socket that does not say so itself.
    """

    endpoint: str
    site: MirrorSite
    certificates: Certificates | None = None
    mode: str | None = None


@attrs.frozen
class Reloaded:
    """What a reload came to: the new `drain_timeout`, and the keys that keep their value until a restart."""

    drain_seconds: float
    needing_restart: tuple[str, ...] = ()


@attrs.frozen
class Parts:
    """What the service starts and stops; the admin's listener first and last.

    `reload` takes on a new configuration, or raises ConfigError and changes nothing.
    """

    listeners: tuple[Listener, ...]
    admin: Listener
    pools: tuple[ThreadPool, ...]
    pages: PageCache
    background: tuple[Background, ...]
    puller: BlobDownloads
    store: Closeable
    upstreams: Callable[[], Iterable[Closeable]]
    notifier: Notifier
    reload: Callable[[], Reloaded]
    drain_seconds: float


class MirrorService(Service):
    """The daemon: `assemble` makes its parts when it starts, after twistd has become a daemon.

    `logs` is what tells its events, None where twistd is told otherwise.

    Raises, from `privilegedStartService`:
        SystemExit: It cannot start; the message is one line for the operator.
    """

    _log = Logger()

    def __init__(self, reactor: Any, assemble: Callable[[], Parts], logs: ILogObserver | None = None) -> None:
        self._reactor = reactor
        self._logs = logs
        self._assemble = assemble
        self._drain_seconds = 0.0
        self._parts: Parts | None = None
        self._ports: list[IListeningPort] = []
        self._admin_port: IListeningPort | None = None
        self.is_draining = False

    def setServiceParent(self, parent: Any) -> None:
        """Become part of `parent`. An application logs as we do, unless twistd's command line says how."""
        if self._logs is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._logs)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the store and the TLS files and bind the ports, or say in one line why that cannot be."""
        try:
            parts = self._parts = self._assemble()
        except (OSError, ConfigError) as error:
            raise SystemExit(f"mirrord: cannot start: {error}") from None
        self._drain_seconds = parts.drain_seconds
        self._admin_port = self._bind(parts, parts.admin)
        self._ports = [self._bind(parts, listener) for listener in parts.listeners]
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Begin what runs in the background; ports are bound already."""
        super().startService()  # type: ignore[no-untyped-call]
        parts = self._running
        for pool in parts.pools:
            pool.start()
        for task in parts.background:
            task.start()
        self._reactor.callWhenRunning(parts.notifier.ready)
        endpoints = ", ".join(listener.endpoint for listener in parts.listeners)
        self._log.info("mirrord serves at {endpoints}", endpoints=endpoints, event=Event.STARTED)

    def reload(self) -> None:
        """Take on a new configuration; one that is wrong changes nothing, and the log says what is wrong."""
        if self._parts is None or self.is_draining:
            return
        notifier = self._parts.notifier
        notifier.reloading(time.monotonic())
        try:
            reloaded = self._parts.reload()
        except ConfigError as error:
            for line in error.lines:
                self._log.error(
                    "the configuration is not taken: {line}", line=line, event=Event.RELOAD_REFUSED
                )
        else:
            self._drain_seconds = reloaded.drain_seconds
            for key in reloaded.needing_restart:
                self._log.warn("{key} has changed: that needs a restart", key=key)
            self._log.info("the configuration was read again", event=Event.RELOADED)
        finally:
            notifier.ready()

    def stopService(self) -> Deferred[None]:
        """Drain: fires when all is on the disk and let go of."""
        self.is_draining = True
        self._running.notifier.stopping()
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._drain())

    def hurry(self) -> None:
        """Do not wait for clients any longer."""
        for listener in self._running.listeners:
            listener.site.break_off()

    @property
    def _running(self) -> Parts:
        if self._parts is None:
            raise RuntimeError("the service was never started")
        return self._parts

    def _bind(self, parts: Parts, listener: Listener) -> IListeningPort:
        opened: list[Any] = []
        Deferred.fromCoroutine(
            open_port(
                self._reactor,
                listener.endpoint,
                listener.site,
                parts.pages,
                listener.certificates,
                mode=listener.mode,
            )
        ).addBoth(opened.append)
        match opened:
            case [port] if IListeningPort.providedBy(port):
                return port
            case [failure] if failure.check(CannotListenError):
                reason = getattr(failure.value.socketError, "strerror", None) or failure.value.socketError
                raise SystemExit(f"mirrord: cannot listen at {listener.endpoint}: {reason}")
            case [failure]:
                raise SystemExit(f"mirrord: cannot listen at {listener.endpoint}: {failure.value}")
        raise SystemExit(f"mirrord: cannot listen at {listener.endpoint}: it takes too long")

    async def _drain(self) -> None:
        parts = self._running
        await self._step("closing the ports", lambda: self._close(*self._ports))
        seconds = self._drain_seconds + _STEP_SECONDS
        await self._step("answering clients", lambda: self._let_clients_go(parts), seconds)
        for task in parts.background:
            await self._step("stopping what runs in the background", task.stop)
        await self._step("parking downloads", lambda: Deferred.fromCoroutine(parts.puller.stop()))
        for upstream in parts.upstreams():
            await self._step("closing an upstream", upstream.close)
        await self._step("closing the store", lambda: Deferred.fromCoroutine(parts.store.close()), 60.0)
        if self._admin_port is not None:
            await self._step("closing the admin port", lambda: self._close(self._admin_port))
        parts.admin.site.break_off()
        for pool in parts.pools:
            pool.stop()
        self._log.info("mirrord has drained", event=Event.DRAINED)

    async def _step(self, what: str, act: Callable[[], Any], seconds: float = _STEP_SECONDS) -> None:
        """One step of the drain: it is given its time, and its failure does not stop the rest."""

        def give_up(_: object, seconds: float) -> None:
            self._log.error("{what} took more than {seconds:.0f} s", what=what, seconds=seconds)

        try:
            await maybeDeferred(act).addTimeout(seconds, self._reactor, give_up)
        except Exception:  # noqa: BLE001 - the next step has to be taken whatever this one did
            self._log.failure("{what} failed", what=what)

    def _close(self, *ports: IListeningPort | None) -> Awaitable[Any]:
        closing = [maybeDeferred(port.stopListening) for port in ports if port is not None]
        return DeferredList(closing, consumeErrors=True)

    def _let_clients_go(self, parts: Parts) -> Deferred[Any]:
        sites = [listener.site for listener in parts.listeners]
        cut = self._reactor.callLater(self._drain_seconds, self.hurry)

        def is_over(result: Any) -> Any:
            if cut.active():
                cut.cancel()
            return result

        return DeferredList([site.drain() for site in sites], consumeErrors=True).addBoth(is_over)
