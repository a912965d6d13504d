"""Tap: the command line of `twistd mirrord`, the configuration that it means, and signals."""

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
from mirrord.daemon.runtime import Runtime
from mirrord.daemon.service import MirrorService
from mirrord.observe.logs import observer


class Options(TwistedOptions):
    """The command line of `twistd mirrord`; what it says goes before the file."""

    synopsis = "[options]"
    longdesc = "A container registry mirror. Without options it serves Docker Hub at http://127.0.0.1:5000."
    optFlags: ClassVar = [["check", None, "Print what is wrong with the configuration, or its meaning."]]
    optParameters: ClassVar = [
        ["config", "c", None, "The configuration, a TOML file."],
        ["upstream", None, None, "The URL that stands in for docker.io."],
        ["store", None, None, "The folder in which content is kept."],
        ["admin", None, None, "The endpoint of metrics, health and status."],
    ]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []

    def opt_listen(self, endpoint: str) -> None:
        """An endpoint to serve at, such as tcp:5000:interface=127.0.0.1; may be given several times."""
        self["listen"].append(endpoint)

    def parseArgs(self, *args: str) -> None:  # noqa: N802 - Twisted's name
        """Nothing but options is understood."""
        if args:
            raise UsageError(f"not an option: {args[0]}")


def makeService(options: Options) -> MirrorService:
    """The service that `options` and the environment describe.

    Raises:
        SystemExit: The configuration cannot be used, or `--check` has printed what it means.
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
        log_observer=None if _has_other_log(options) else logs,
    )
    reactor.callWhenRunning(_heed_signals, reactor, service)
    _allow_descriptors()
    return service


def _read_config(options: Options, environment: Mapping[str, str], *, is_running: bool = False) -> Config:
    """The effective configuration; `is_running` where it is to be taken on by a daemon that runs.

    Raises:
        ConfigError: All that is wrong with it, or with the files and endpoints that it names.
    """
    config = override(
        parse_config(_read_file(options["config"], is_running=is_running), environment=environment),
        listen=options["listen"],
        upstream=options["upstream"],
        store=options["store"],
        admin=options["admin"],
    )
    lines = check_files(config, environment, is_running=is_running)
    if lines:
        raise ConfigError(lines)
    return config


def _read_file(name: str | None, *, is_running: bool) -> str:
    if name is None:
        return ""
    path = Path(name)
    try:
        if is_running and not path.is_file():
            # A pipe gives its text once; what it gives now would be an empty file, and all defaults.
            raise ConfigError([f"{name} is no file that can be read twice"])
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{name} cannot be read: {error}"]) from None


def _has_other_log(options: Options) -> bool:
    """Whether twistd is told to log elsewhere, or will become a daemon that has no standard output."""
    twistd = options.parent
    return twistd is not None and (
        twistd["logfile"] is not None or bool(twistd["syslog"]) or not twistd["nodaemon"]
    )


def _heed_signals(reactor: Any, service: MirrorService) -> None:
    """SIGTERM and SIGINT drain, with status 0, and a second one ends the wait for clients; SIGHUP reloads."""

    def stop() -> None:
        if reactor.running and not service.is_draining:
            reactor.stop()
        else:
            service.abort_connections()

    for number, act in ((signal.SIGHUP, service.reload), (signal.SIGTERM, stop), (signal.SIGINT, stop)):
        signal.signal(number, lambda *_, act=act: reactor.callFromThread(act))


def _allow_descriptors() -> None:
    """As many file descriptors as we may have: a client takes two, and the soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
