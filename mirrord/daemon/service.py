"""The service: an ordered start, a reload, an ordered drain.

Twisted's MultiService starts and stops all its children at once and waits for no Deferred, but here the order
matters. Start: the store, then the ports (if one cannot be bound, the start fails before anything is served),
then the background tasks. Drain: the ports, then the running requests (for `drain_timeout`), then the
downloads, which are parked, then the store; the process exits even if one of these hangs. Reload: a new
generation is built beside the current one on the same runtime, and installed.

An index that is found damaged ends the daemon by itself: it drains and exits with a failure, so that systemd
starts it again, and that start rebuilds it. Staying up would mean to refuse all pushes until somebody
notices; the index is rebuilt in the second or two that a start takes.
"""

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized

from mirrord.admin.commands import Commands
from mirrord.config.config import Config, ConfigError
from mirrord.config.reload import keys_needing_restart, merge
from mirrord.daemon.admin import build_admin_root
from mirrord.daemon.generation import Generation
from mirrord.daemon.runtime import Runtime
from mirrord.observe.events import Event
from mirrord.oci.platforms import Platform

_STEP_SECONDS = 5.0
"""The timeout of a step of the drain that has none of its own. What is on the disk is safe at any time."""

_EXIT_SECONDS = 8.0
"""How long all steps may take, beyond `drain_timeout`, before the process exits without them."""

ExitAfter = Callable[[float, Callable[[], str | None]], None]
"""Ends the process if it has not ended in so many seconds; the function returns what may be in the way."""


class MirrorService(Service):
    """The daemon. `open_runtime` is called when it starts, after twistd has daemonized.

    `read_config` reads the configuration for a reload, or raises ConfigError. `log_observer` replaces that of
    the application; None keeps twistd's own. `exit_after` ends the process if the drain does not; after
    `fail_at_exit` it ends with a failure.

    Raises, from `privilegedStartService`:
        SystemExit: It cannot start; the message is one line for the operator.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        config: Config,
        open_runtime: Callable[[Config], Runtime],
        read_config: Callable[[], Config],
        exit_after: ExitAfter,
        fail_at_exit: Callable[[], None],
        log_observer: ILogObserver | None = None,
    ) -> None:
        self._config = config
        self._open_runtime = open_runtime
        self._read_config = read_config
        self._exit_after = exit_after
        self._fail_at_exit = fail_at_exit
        self._log_observer = log_observer
        self._runtime: Runtime | None = None
        self._generation: Generation | None = None
        self._reload_error: str | None = None
        self._commands = Commands(
            operations=lambda: self.generation.operations,
            own_platform=Platform.of_machine(platform.machine()),
            socket=lambda: self.runtime.command_socket,
        )
        self.is_draining = False

    @property
    def runtime(self) -> Runtime:
        """The runtime of a service that has started."""
        if self._runtime is None:
            raise RuntimeError("the service has not started")
        return self._runtime

    @property
    def generation(self) -> Generation:
        """The generation in effect."""
        if self._generation is None:
            raise RuntimeError("the service has not started")
        return self._generation

    def setServiceParent(self, parent: Any) -> None:
        """Attach to `parent`, and set its log observer unless twistd's options name another one."""
        if self._log_observer is not None and isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, self._log_observer)
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]

    def privilegedStartService(self) -> None:
        """Open the store, read the TLS files and bind the ports, or exit with one line for the operator."""
        try:
            runtime = self._runtime = self._open_runtime(self._config)
            self._generation = Generation.build(runtime, self._config)
        except (OSError, ConfigError) as error:
            raise SystemExit(f"mirrord: cannot start: {error}") from None
        self._generation.install(runtime)
        admin_root = build_admin_root(
            runtime,
            self._commands,
            upstreams=lambda: self.generation.upstreams,
            reload_error=lambda: self._reload_error,
        )
        for listener in runtime.admin:
            listener.site.resource = admin_root
        try:
            for listener in (*runtime.admin, *runtime.listeners):
                listener.bind(runtime.reactor, runtime.pages)
        except OSError as error:
            raise SystemExit(f"mirrord: {error}") from None
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def startService(self) -> None:
        """Start the background tasks; the ports are bound already."""
        super().startService()  # type: ignore[no-untyped-call]
        runtime = self.runtime
        for pool in runtime.pools:
            pool.start()
        for task in runtime.background:
            task.start()
        runtime.reactor.callWhenRunning(runtime.notifier.ready)
        endpoints = ", ".join(listener.endpoint for listener in runtime.listeners)
        self._log.info("listening on {endpoints}", endpoints=endpoints, event=Event.STARTED)
        runtime.store.damaged.addCallback(self._end)

    def reload(self) -> None:
        """Read the configuration again and put it into effect; an invalid one changes nothing."""
        if self._runtime is None or self.is_draining:
            return
        notifier = self._runtime.notifier
        notifier.reloading(time.monotonic())
        try:
            self._replace_generation(self._runtime)
        except ConfigError as error:
            self._reload_error = (
                f"reload rejected; the previous configuration stays in effect: {error.lines[0]}"
            )
            for line in error.lines:
                self._log.error("reload rejected: {line}", line=line, event=Event.RELOAD_REFUSED)
        else:
            self._reload_error = None
            self._log.info("configuration reloaded", event=Event.RELOADED)
        finally:
            notifier.ready()

    def stopService(self) -> Deferred[None]:
        """Drain; fires when everything is written and closed."""
        self.is_draining = True
        self._exit_after(
            self.generation.config.drain_timeout + _EXIT_SECONDS, lambda: self.runtime.threads.problem
        )
        self.runtime.notifier.stopping()
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._drain())

    def abort_connections(self) -> None:
        """Close the clients' connections, also those with running requests."""
        for listener in self.runtime.listeners:
            listener.site.abort_connections()

    def _end(self, damage: str) -> None:
        """Drain, and exit with a failure; a drain that has begun already goes on."""
        self._log.error(
            "the index is damaged: {damage}; pushes and deletions are refused, and mirrord exits with a "
            "failure: its next start rebuilds the index, with everything that was pushed",
            damage=damage,
        )
        self._fail_at_exit()
        if not self.is_draining:
            self.runtime.reactor.callWhenRunning(self._stop_reactor)

    def _stop_reactor(self) -> None:
        with suppress(ReactorNotRunning):  # it was stopped, and the drain is about to begin
            self.runtime.reactor.stop()

    def _replace_generation(self, runtime: Runtime) -> None:
        """Build the generation of the configuration on the disk, and install it.

        Raises:
            ConfigError: It is invalid; nothing has changed.
        """
        running, requested = self.generation.config, self._read_config()
        generation = Generation.build(runtime, merge(running, requested))
        generation.install(runtime)
        self._generation = generation
        for certificates in runtime.certificates:
            certificates.reload()
        for key in keys_needing_restart(running, requested):
            self._log.warn("{key} has changed and takes effect after a restart", key=key)

    async def _drain(self) -> None:
        runtime = self.runtime
        await self._step("closing the ports", self._close_ports)
        seconds = self.generation.config.drain_timeout + _STEP_SECONDS
        await self._step("finishing running requests", self._finish_requests, seconds)
        await self._step("stopping the operator's commands", self._commands.stop)
        for task in runtime.background:
            await self._step("stopping a background task", task.stop)
        await self._step("stopping confirmations", runtime.references.stop)
        await self._step("stopping downloads", lambda: Deferred.fromCoroutine(runtime.downloads.stop()))
        for upstream in runtime.upstreams.values():
            await self._step("closing an upstream", upstream.close)
        await self._step("closing the store", lambda: Deferred.fromCoroutine(runtime.store.close()), 60.0)
        for listener in runtime.admin:
            await self._step("closing an admin port", listener.close_port)
            listener.site.abort_connections()
        for pool in runtime.pools:
            pool.stop()
        self._log.info("stopped", event=Event.DRAINED)

    async def _step(self, name: str, run: Callable[[], Any], seconds: float = _STEP_SECONDS) -> None:
        """Run one step of the drain within its timeout; a failure does not prevent the next steps."""

        def give_up(_: object, seconds: float) -> None:
            self._log.error("{step} took more than {seconds:.0f} s", step=name, seconds=seconds)

        try:
            await maybeDeferred(run).addTimeout(seconds, self.runtime.reactor, give_up)
        except Exception:  # noqa: BLE001 - the next steps must run in any case
            self._log.failure("{step} failed", step=name)

    def _close_ports(self) -> Deferred[Any]:
        closing = [listener.close_port() for listener in self.runtime.listeners]
        return DeferredList(closing, consumeErrors=True)

    def _finish_requests(self) -> Deferred[Any]:
        """Let running requests finish, and close their connections after `drain_timeout`."""
        seconds = self.generation.config.drain_timeout
        abort = self.runtime.reactor.callLater(seconds, self.abort_connections)

        def drained(result: Any) -> Any:
            if abort.active():
                abort.cancel()
            return result

        sites = [listener.site for listener in self.runtime.listeners]
        return DeferredList([site.drain() for site in sites], consumeErrors=True).addBoth(drained)
