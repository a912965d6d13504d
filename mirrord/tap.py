"""Tap: the command line of `twistd mirrord`, the configuration that it means, and signals."""

import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from twisted.internet import reactor as global_reactor
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from mirrord.assembly import assemble
from mirrord.config import Config, ConfigError, override, parse_config, render
from mirrord.preflight import check_files
from mirrord.service import MirrorService


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
    config = _configure(options, os.environ)
    reactor: Any = global_reactor
    service = MirrorService(
        reactor, lambda: assemble(config, reactor, environment=os.environ), config.drain_timeout
    )
    reactor.callWhenRunning(_exit_cleanly, reactor, service)
    _allow_descriptors()
    return service


def _configure(options: Options, environment: Mapping[str, str]) -> Config:
    """The effective configuration; with `--check` it is printed, and that is all."""
    try:
        text = Path(options["config"]).read_text("utf-8") if options["config"] else ""
        config = override(
            parse_config(text, environment=environment),
            listen=options["listen"],
            upstream=options["upstream"],
            store=options["store"],
            admin=options["admin"],
        )
        lines = check_files(config, environment)
    except (OSError, UnicodeDecodeError) as error:
        raise SystemExit(f"mirrord: {options['config']} cannot be read: {error}") from None
    except ConfigError as error:
        lines = list(error.lines)
    if lines:
        raise SystemExit("\n".join(f"mirrord: {line}" for line in lines))
    if options["check"]:
        sys.stdout.write(render(config))
        raise SystemExit(0)
    return config


def _exit_cleanly(reactor: Any, service: MirrorService) -> None:
    """End with status 0 on SIGTERM and SIGINT, a second of which ends the wait for clients; not on SIGHUP."""

    def stop() -> None:
        if reactor.running and not service.is_draining:
            reactor.stop()
        else:
            service.hurry()

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: reactor.callFromThread(stop))


def _allow_descriptors() -> None:
    """As many file descriptors as we may have: a client takes two, and the soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
