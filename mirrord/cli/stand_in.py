"""A stand-in: the daemon, for the time of one command, where none runs.

Listing, hashing and deleting are the daemon's use cases over the daemon's store, and there must not be
a second version of them that is used once a year. So a command that finds nobody at the admin
listener starts the same daemon without any port: it listens at two socket files in a private folder,
and is asked there. The lock of the store keeps it from one that runs after all. It runs as the owner
of the store: files that root made would be closed to the service.
"""

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

from mirrord.cli.address import Address
from mirrord.cli.configuration import read_config
from mirrord.cli.daemon import Daemon
from mirrord.cli.run import daemon_command
from mirrord.cli.settings import Settings
from mirrord.cli.statuses import Failed, NotRunning
from mirrord.config import AdminConfig, Config, ListenConfig, LogConfig, render

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_POLL_SECONDS = 0.05
_IS_IN_USE = "is in use by another mirrord"


@contextmanager
def reach(settings: Settings) -> Iterator[Daemon]:
    """The daemon that runs, else a stand-in over the configured store.

    Raises:
        NotRunning: None runs, and there is no store to stand in for; or one runs and does not answer.
        Failed: The store cannot be used.
    """
    daemon = Daemon(settings.admin())
    if daemon.is_running() or settings.named_admin is not None:
        yield daemon
        return
    config = read_config(settings)
    store = config.store.path
    if not (store / "lock").exists():
        raise NotRunning(f"no daemon answers at {daemon.address}, and {store} holds no store")
    click.echo(f"mirrord: no daemon runs; this works on {store} itself", err=True)
    with _start(config) as stand_in:
        yield stand_in


@contextmanager
def _start(config: Config) -> Iterator[Daemon]:
    owner = config.store.path.stat()
    is_root = os.geteuid() == 0
    if not is_root and os.geteuid() != owner.st_uid:
        raise Failed(f"{config.store.path} belongs to another user; try again with sudo")
    with tempfile.TemporaryDirectory(prefix="mirrord-", dir="/tmp") as name:
        folder = Path(name)
        address = Address("", 0, str(folder / "admin"))
        (folder / "mirrord.toml").write_text(render(_apart(config, folder)), "utf-8")
        if is_root:
            for path in (folder, folder / "mirrord.toml"):
                os.chown(path, owner.st_uid, owner.st_gid)
        with (folder / "log").open("wb") as log:
            twistd = subprocess.Popen(  # noqa: S603 - our own command line
                daemon_command(["--config", str(folder / "mirrord.toml")]),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=owner.st_uid if is_root else None,
                group=owner.st_gid if is_root else None,
                extra_groups=[] if is_root else None,
            )
        try:
            _wait(twistd, Daemon(address), folder / "log")
            yield Daemon(address)
        finally:
            _stop(twistd)


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
        listen=(ListenConfig(f"unix:{folder}/pull"),),
        admin=AdminConfig(f"unix:{folder}/admin"),
        log=LogConfig(format="text"),
    )


def _wait(twistd: "subprocess.Popen[bytes]", daemon: Daemon, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not daemon.is_running():
        if twistd.poll() is not None or time.monotonic() > deadline:
            said = log.read_text("utf-8", "replace").strip().splitlines() or ["it did not start"]
            line = next((line for line in said if _IS_IN_USE in line), said[-1])
            raise NotRunning(f"{line}; but no daemon answers") if _IS_IN_USE in line else Failed(line)
        time.sleep(_POLL_SECONDS)


def _stop(twistd: "subprocess.Popen[bytes]") -> None:
    twistd.send_signal(signal.SIGTERM)
    try:
        twistd.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        twistd.kill()
        twistd.wait()
