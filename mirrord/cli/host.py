"""Host: where the files of the service belong, and the steps to it and back.

The steps are worked out from what lies on the disk before any of them is taken.
"""

import pwd
import tomllib
from collections.abc import Iterator
from pathlib import Path

import attrs

from mirrord.cli import systemd_units
from mirrord.cli.steps import Command, File, Link, Removal, Step
from mirrord.cli.systemd_units import SERVICE, SOCKET, Installation

_USER = "mirrord"
_ADVICE = "it does not start; `journalctl --unit=mirrord --lines=20` says why"
_FILL_PLUGIN_CACHE = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"


@attrs.frozen
class Host:
    """Where things are on a host whose file system begins at `root`; one that `is_running` has a systemd."""

    root: Path
    is_running: bool

    @property
    def units(self) -> Path:
        """Where an administrator's units are, which go before a package's."""
        return self.root / "etc/systemd/system"

    @property
    def sysusers(self) -> Path:
        """The file that names its user."""
        return self.root / "etc/sysusers.d/mirrord.conf"

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.root / "etc/mirrord/mirrord.toml"

    @property
    def command(self) -> Path:
        """The operator's command, where every shell looks."""
        return self.root / "usr/local/bin/mirrord"

    @property
    def content(self) -> tuple[Path, ...]:
        """What an operator wrote and what mirrord keeps; only `--purge` touches it."""
        return (
            self.config.parent,
            self.root / "var/cache/mirrord",
            self.root / "var/lib/mirrord",
            self.units / f"{SERVICE}.d",
            self.units / f"{SOCKET}.d",
        )

    @property
    def is_listening_by_socket(self) -> bool:
        """Whether a listener of its configuration takes its port from systemd; unless there is none yet."""
        try:
            listeners = tomllib.loads(self.config.read_text("utf-8")).get("listen")
        except FileNotFoundError:
            return True
        tables = [each for each in listeners if isinstance(each, dict)] if isinstance(listeners, list) else []
        return any(str(table.get("endpoint")).startswith("systemd:") for table in tables)

    def has(self, unit: str) -> bool:
        """Whether a unit is installed."""
        return (self.units / unit).exists()

    def systemctl(self, *words: str, advice: str = "") -> Command:
        """A call of systemctl for this host."""
        root = () if self.is_running else (f"--root={self.root}",)
        return Command(("systemctl", *root, *words), advice)


def installing(installation: Installation, host: Host, *, is_socket: bool, is_now: bool) -> Iterator[Step]:
    """The steps to a service that starts at boot, and with `is_now` runs when they are taken.

    A socket unit that is there already is kept up to date without being asked for.
    """
    has_socket = is_socket or host.has(SOCKET)
    socket = File(host.units / SOCKET, systemd_units.socket_unit())
    is_new_port = has_socket and not socket.is_done
    root = () if host.is_running else (f"--root={host.root}",)
    yield File(host.sysusers, systemd_units.sysusers())
    yield Command(("systemd-sysusers", *root, host.sysusers.name))
    yield File(host.config, systemd_units.configuration(is_socket=has_socket), is_theirs=True)
    yield File(host.units / SERVICE, systemd_units.service_unit(installation))
    if has_socket:
        yield socket
    yield Link(host.command, installation.command)
    # The service cannot write there; without the cache, twistd looks for its plugins at every start.
    yield Command((str(installation.python), "-c", _FILL_PLUGIN_CACHE))
    names = (SERVICE, SOCKET) if has_socket else (SERVICE,)
    if host.is_running:
        yield host.systemctl("daemon-reload")
    yield host.systemctl("enable", *names)
    if is_now and is_new_port:
        # Whoever has the port now, the service or an earlier socket, gives it up first.
        yield host.systemctl("stop", SOCKET, SERVICE)
    if is_now:
        yield host.systemctl("restart", SERVICE, advice=_ADVICE)


def uninstalling(installation: Installation, host: Host, *, is_purge: bool) -> Iterator[Step]:
    """The steps back; with `is_purge` nothing of it stays but the installation itself."""
    names = [name for name in (SOCKET, SERVICE) if host.has(name)]
    if names:
        now = ("--now",) if host.is_running else ()
        yield host.systemctl("disable", *now, *names)
    for name in (SOCKET, SERVICE):
        yield Removal(host.units / name)
    yield Removal(host.sysusers)
    if host.command.is_symlink() and host.command.readlink() == installation.command:
        yield Removal(host.command)
    if is_purge:
        yield from map(Removal, host.content)
    if host.is_running:
        yield host.systemctl("daemon-reload")
    if is_purge and host.is_running and _is_known(_USER):
        yield Command(("userdel", _USER))


def _is_known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
