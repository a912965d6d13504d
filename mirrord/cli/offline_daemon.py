"""A stand-in: the daemon, for the time of one command, where none runs.

Listing, hashing and deleting are the daemon's use cases over the daemon's store, and there must not be
a second version of them that is used once a year. So a command that finds nobody at the admin
listener starts the same daemon without any port: it listens at two socket files in a private folder,
and is asked there. The lock of the store keeps it from one that runs after all. It runs as the owner
of the store: files that root made would be closed to the service.
"""

import ctypes
import os
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
from mirrord.cli.run import daemon_command
from mirrord.config.config import AdminConfig, Config, ListenConfig, LogConfig, render

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1
_IS_IN_USE = "is in use by another mirrord"


@contextmanager
def reach(settings: GlobalOptions) -> Iterator[AdminClient]:
    """The daemon that runs, else a stand-in over the configured store.

    Raises:
        DaemonUnreachable: None runs, and there is no store to stand in for; or one runs and does not answer.
        CommandError: The store cannot be used, or is another user's.
    """
    daemon = AdminClient(settings.admin())
    if daemon.is_running() or settings.named_admin is not None:
        yield daemon
        return
    config = read_config(settings)
    store = config.store.path
    if not _is_store(store):
        raise DaemonUnreachable(f"no daemon answers at {daemon.address}, and {store} holds no store")
    click.echo(f"mirrord: no daemon runs; this works on {store} itself", err=True)
    with _start(config, store.stat()) as stand_in:
        yield stand_in


def _is_store(path: Path) -> bool:
    try:
        return path.exists() and any(path.iterdir())
    except PermissionError:
        raise CommandError(f"{path} belongs to another user; try again with sudo") from None


@contextmanager
def _start(config: Config, owner: os.stat_result) -> Iterator[AdminClient]:
    with tempfile.TemporaryDirectory(prefix="mirrord-", dir="/tmp") as name:
        folder = Path(name)
        file, log = folder / "mirrord.toml", folder / "log"
        file.write_text(render(_apart(config, folder)), "utf-8")
        for path in (folder, file):
            os.chown(path, owner.st_uid, owner.st_gid)
        daemon = AdminClient(Address("", 0, str(folder / "admin")))
        twistd = _spawn(daemon_command(["--config", str(file)]), log, owner)
        try:
            _wait(twistd, daemon, log)
            yield daemon
        finally:
            _stop(twistd)


def _spawn(command: list[str], log: Path, owner: os.stat_result) -> "subprocess.Popen[bytes]":
    """Run it as the owner of the store, out of the reach of our terminal's Control-C."""
    is_other = os.geteuid() != owner.st_uid
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own command line
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=owner.st_uid if is_other else None,
            group=owner.st_gid if is_other else None,
            extra_groups=[] if is_other else None,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - there is no other thread
        )


def _apart(config: Config, folder: Path) -> Config:
    """The same store and upstreams, out of everybody's reach.

    Accounts whose password systemd hands to the service, and to nobody else, are left out.
    """
    upstreams = tuple(
        attrs.evolve(
            one,
            account=tuple(
                account for account in one.account if not account.password_file.startswith("credential:")
            ),
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
    """Ask the kernel to end us when our parent ends (prctl(2)): nobody may be left with the store."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(twistd: "subprocess.Popen[bytes]", daemon: AdminClient, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not daemon.is_running():
        if twistd.poll() is not None or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace").strip().splitlines() or ["it did not start"]
            line = next((line for line in said if _IS_IN_USE in line), said[-1])
            raise (
                DaemonUnreachable(f"{line}; but no daemon answers")
                if _IS_IN_USE in line
                else CommandError(line)
            )
        time.sleep(_POLL_SECONDS)


def _stop(twistd: "subprocess.Popen[bytes]") -> None:
    twistd.send_signal(signal.SIGTERM)
    try:
        twistd.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        twistd.kill()
        twistd.wait()
