"""A temporary daemon for commands that are run while no daemon is running.

Listing, verifying and removing are use cases of the daemon on the daemon's store, and a second
implementation, rarely used, would drift. So a command that finds no daemon at the admin
listener starts one without any port: it listens on two Unix sockets in a private folder. The lock of the
store excludes a daemon that is running elsewhere. Root becomes the owner of the store before it starts one:
files created by root would be inaccessible to the service, and what the service can write is a trap for root
(ownership.py), the private folder with the log of that daemon included.
"""

import ctypes
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from mirrord.cli.addresses import Address
from mirrord.cli.admin_client import AdminClient
from mirrord.cli.configuration import read_config
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.global_options import GlobalOptions
from mirrord.cli.ownership import Owner
from mirrord.cli.run import daemon_command
from mirrord.config.config import AdminConfig, Config, ListenConfig, LogConfig, render
from mirrord.config.types import is_credential

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_STORE_IN_USE = "is in use by another mirrord"


@contextmanager
def connect(options: GlobalOptions) -> Iterator[AdminClient]:
    """Yield a client of the running daemon, or else of a temporary one on the configured store.

    Raises:
        DaemonUnreachable: No daemon is running, and there is no store; or the store is in use by a daemon
            that does not respond here.
        CommandError: The store cannot be used, or belongs to another user.
    """
    daemon = AdminClient(options.commands())
    if daemon.is_running() or options.admin_option is not None:
        yield daemon
        return
    config = read_config(options)
    store = config.store.path
    if not _is_store(store):
        raise DaemonUnreachable(f"no daemon is running at {daemon.address}, and there is no store in {store}")
    click.echo(f"mirrord: no daemon is running; opening the store {store} directly", err=True)
    Owner.of(store, config.hosted_folder).become()
    with _start(config) as offline_daemon:
        yield offline_daemon


def _is_store(path: Path) -> bool:
    try:
        return path.exists() and any(path.iterdir())
    except PermissionError:
        raise CommandError(f"cannot open {path}: permission denied; try again with sudo") from None


@contextmanager
def _start(config: Config) -> Iterator[AdminClient]:
    with tempfile.TemporaryDirectory(prefix="mirrord-", dir="/tmp") as name:
        folder = Path(name)
        file, log = folder / "mirrord.toml", folder / "log"
        file.write_text(render(_without_ports(config, folder)), "utf-8")
        daemon = AdminClient(Address.of_socket(folder / "admin"))
        twistd = _spawn(daemon_command(["--config", str(file)]), log)
        try:
            _wait_until_ready(twistd, daemon, log)
            yield daemon
        finally:
            _stop(twistd)


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start the daemon in a session of its own: Control-C does not reach it."""
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is no other thread
        )


def _without_ports(config: Config, folder: Path) -> Config:
    """Return a configuration with the same store and upstreams, that listens in a private folder only.

    Accounts with a password that systemd passes to the service only are omitted.
    """
    upstreams = tuple(
        attrs.evolve(
            one,
            account=tuple(account for account in one.account if not is_credential(account.password_file)),
        )
        for one in config.upstream
    )
    return attrs.evolve(
        config,
        upstream=upstreams,
        listen=(ListenConfig(endpoint=f"unix:{folder}/pull"),),
        admin=AdminConfig(f"unix:{folder}/admin"),
        log=LogConfig(format="text"),
    )


def _end_with_parent() -> None:
    """Have the kernel terminate this process with its parent (prctl(2)), so that the store is released."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait_until_ready(twistd: subprocess.Popen[bytes], daemon: AdminClient, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not daemon.is_running():
        if twistd.poll() is not None or time.monotonic() > deadline:
            output = log.read_text("utf-8", "replace").strip().splitlines() or ["the daemon did not start"]
            conflict = next((line for line in output if _STORE_IN_USE in line), None)
            if conflict is not None:
                raise DaemonUnreachable(f"{conflict}, which does not respond at the configured address")
            raise CommandError(output[-1])
        time.sleep(_POLL_SECONDS)


def _stop(twistd: subprocess.Popen[bytes]) -> None:
    twistd.send_signal(signal.SIGTERM)
    try:
        twistd.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        twistd.kill()
        twistd.wait()
