"""`twistd mirrord`: options, the configuration, the service, and signals."""

import gc
import os
import resource
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as global_reactor
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from mirrord.config.checks import check_files
from mirrord.config.config import Config, ConfigError, override, parse_config, render
from mirrord.daemon.forced_exit import exit_after, fail_at_exit
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.service import MirrorService
from mirrord.observe.logs import observer


class Options(TwistedOptions):
    """The options of `twistd mirrord`; they take precedence over the configuration file."""

    synopsis = "[options]"
    longdesc = "A container registry mirror. Without options it mirrors Docker Hub and other registries at http://127.0.0.1:5000."
    optFlags: ClassVar = [
        ["check", None, "Check the configuration; print its errors, or the effective configuration."]
    ]
    optParameters: ClassVar = [
        ["config", "c", None, "The configuration, a TOML file."],
        ["upstream", None, None, "The URL of docker.io, or of a registry that replaces it."],
        ["store", None, None, "The folder of the store."],
        ["admin", None, None, "The endpoint of the admin listener."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """An endpoint to listen on, such as tcp:5000:interface=127.0.0.1; may be repeated."""
        self["listen"].append(endpoint)

    def parseArgs(self, *args: str) -> None:  # noqa: N802 - Twisted's name
        """Reject positional arguments."""
        if args:
            raise UsageError(f"unexpected argument: {args[0]}")


def makeService(options: Options) -> MirrorService:
    """Return the service for these options and the environment.

    Raises:
        SystemExit: The configuration is invalid, or `--check` has printed it.
    """
    try:
        config = _read_config(options, os.environ)
    except ConfigError as error:
        raise SystemExit("\n".join(f"mirrord: {line}" for line in error.lines)) from None
    if options["check"]:
        sys.stdout.write(render(config))
        raise SystemExit(0)
    reactor: Any = global_reactor
    reread = partial(_read_config, options, os.environ, is_running=True)
    logs = observer()
    logs.configure(config.log.format, config.log.level)
    service = MirrorService(
        config=config,
        open_runtime=partial(Runtime.open, reactor=reactor, environment=os.environ, logs=logs),
        read_config=reread,
        exit_after=exit_after,
        fail_at_exit=fail_at_exit,
        log_observer=None if _has_other_log(options) else logs,
    )
    reactor.callWhenRunning(_install_signal_handlers, reactor, service)
    reactor.callWhenRunning(_freeze_heap)
    _raise_descriptor_limit()
    return service


def _read_config(options: Options, environment: Mapping[str, str], *, is_running: bool = False) -> Config:
    """Return the effective configuration; `is_running` for the reload of a running daemon.

    Raises:
        ConfigError: The configuration, or a file or endpoint that it names, is invalid.
    """
    config = override(
        parse_config(
            _read_file(options["config"], is_running=is_running),
            environment=environment,
            is_store_given=options["store"] is not None,
        ),
        listen=options["listen"],
        upstream=options["upstream"],
        store=options["store"],
        admin=options["admin"],
    )
    if lines := list(check_files(config, environment, is_running=is_running)):
        raise ConfigError(lines)
    return config


def _read_file(name: str | None, *, is_running: bool) -> str:
    if name is None:
        return ""
    path = Path(name)
    try:
        if is_running and not path.is_file():
            # A pipe can be read once; it would be empty now, which would mean all defaults.
            raise ConfigError([f"{name} is not a regular file, so it cannot be read again"])
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name} cannot be read: {error}"]) from None


def _has_other_log(options: Options) -> bool:
    """Return whether twistd logs elsewhere, or will daemonize and have no standard output."""
    twistd = options.parent
    return twistd is not None and (
        twistd["logfile"] is not None or bool(twistd["syslog"]) or not twistd["nodaemon"]
    )


def _install_signal_handlers(reactor: Any, service: MirrorService) -> None:
    """On SIGTERM and SIGINT drain and exit with 0, on a second one abort connections; on SIGHUP reload."""

    def stop() -> None:
        if reactor.running and not service.is_draining:
            reactor.stop()
        else:
            service.abort_connections()

    for number, action in ((signal.SIGHUP, service.reload), (signal.SIGTERM, stop), (signal.SIGINT, stop)):
        signal.signal(number, lambda *_, action=action: reactor.callFromThread(action))


def _freeze_heap() -> None:
    """Exempt what the start has made from garbage collection, which visits it all in 50 ms."""
    gc.collect()
    gc.freeze()


def _raise_descriptor_limit() -> None:
    """Raise the soft limit of file descriptors, usually 1024, to the hard one: each client needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
