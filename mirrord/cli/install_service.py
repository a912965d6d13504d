"""`mirrord install-service`: this installation of mirrord as a systemd service.

All steps are planned from the state of the host before the first is applied. A step can be previewed, as
`--dry-run` does, and applying it twice has the same effect as once, so an installation can be repeated.
"""

import os
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import attrs
import click

from mirrord.cli.exit_status import CommandError
from mirrord.cli.files import replace_file
from mirrord.cli.systemd_units import (
    SERVICE,
    SOCKET,
    SOCKET_ENDPOINT,
    SYSUSERS,
    USER,
    Installation,
    configuration,
    service_unit,
    service_user,
    template,
)

_START_FAILED = "the service does not start; see `journalctl --unit=mirrord --lines=20`"
_FILL_PLUGIN_CACHE = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"
_FILE_MODE = 0o644
_COMMAND_SECONDS = 600.0
"""A start includes the recovery of the store, a stop the drain of running pulls; the unit bounds both."""


class StepError(Exception):
    """A step failed; the message is one line for the operator."""


@attrs.frozen
class FileStep:
    """Write a file; a configuration (`is_kept`) only if it does not exist."""

    path: Path
    content: str
    is_kept: bool = attrs.field(default=False, kw_only=True)

    @property
    def is_done(self) -> bool:
        """Whether the file needs no change."""
        try:
            return self.path.read_text("utf-8") == self.content or self.is_kept
        except FileNotFoundError:
            return False

    def preview(self) -> str:
        """Return the path, and the content if it would be written."""
        return f"==> {self.path} is unchanged" if self.is_done else f"==> {self.path}\n{self.content}"

    def apply(self) -> str:
        """Write the file atomically; return a line that reports the change."""
        if self.is_done:
            return f"left    {self.path}"
        replace_file(self.path, self.content.encode("utf-8"), mode=_FILE_MODE)
        return f"wrote   {self.path}"


@attrs.frozen
class LinkStep:
    """Create or redirect a symbolic link to `target`; anything but a link at its path is left alone."""

    path: Path
    target: Path

    def preview(self) -> str:
        """Return the link as `ls -l` shows it."""
        return f"==> {self.path} -> {self.target}"

    def apply(self) -> str:
        """Create the link, and its folder if needed; return a line that reports the change."""
        if self.path.is_symlink() and self.path.readlink() != self.target:
            self.path.unlink()
        if self.path.is_symlink() or self.path.exists():
            return f"left    {self.path}"
        self.path.parent.mkdir(0o755, parents=True, exist_ok=True)
        self.path.symlink_to(self.target)
        return f"linked  {self.path}"


@attrs.frozen
class RemovalStep:
    """Remove a file, a link, or a folder with its content."""

    path: Path

    def preview(self) -> str:
        """Return a line that names the path."""
        return f"==> {self.path} is removed"

    def apply(self) -> str:
        """Remove the path if it exists; return a line that reports the change."""
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        elif self.path.is_symlink() or self.path.exists():
            self.path.unlink()
        else:
            return f"absent  {self.path}"
        return f"removed {self.path}"


@attrs.frozen
class CommandStep:
    """Run a command that must succeed, in the root folder, whatever is in the one that we are in.

    `advice` replaces its output in the error if it fails.
    """

    words: tuple[str, ...]
    advice: str = ""

    def preview(self) -> str:
        """Return the command as typed in a shell."""
        return f"$ {shlex.join(self.words)}"

    def apply(self) -> str:
        """Run the command; return a line that names it.

        Raises:
            StepError: It failed; the message contains its output.
        """
        done = subprocess.run(  # noqa: S603 - the words are our own
            self.words,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            reason = self.advice or " ".join(done.stdout.split()) or f"status {done.returncode}"
            raise StepError(f"{shlex.join(self.words)}: {reason}")
        return f"ran     {shlex.join(self.words)}"


Step: TypeAlias = FileStep | LinkStep | RemovalStep | CommandStep
"""One change of the host. `apply` raises OSError, or StepError, if it fails."""


@attrs.frozen
class Host:
    """The paths of the service in a file system; `is_running` if it is that of this host, not of an image."""

    root: Path
    is_running: bool = attrs.field(kw_only=True)

    @property
    def units(self) -> Path:
        """The folder of the administrator's units, which override a package's."""
        return self.root / "etc/systemd/system"

    @property
    def sysusers(self) -> Path:
        """The file that declares the service's user."""
        return self.root / "etc/sysusers.d/mirrord.conf"

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.root / "etc/mirrord/mirrord.toml"

    @property
    def command(self) -> Path:
        """The link to the operator's command, in every shell's search path."""
        return self.root / "usr/local/bin/mirrord"

    @property
    def content(self) -> tuple[Path, ...]:
        """The operator's files and the daemon's data, which only `--purge` removes."""
        return (
            self.config.parent,
            self.root / "var/cache/mirrord",
            self.root / "var/lib/mirrord",
            self.units / f"{SERVICE}.d",
            self.units / f"{SOCKET}.d",
        )

    @property
    def has_socket_listener(self) -> bool:
        """Whether the configuration, if it exists, has a listener on a port passed by systemd."""
        try:
            listeners = tomllib.loads(self.config.read_text("utf-8")).get("listen")
        except FileNotFoundError:
            return True
        tables = [each for each in listeners if isinstance(each, dict)] if isinstance(listeners, list) else []
        return any(str(table.get("endpoint")).startswith("systemd:") for table in tables)

    def has_unit(self, unit: str) -> bool:
        """Return whether a unit is installed."""
        return (self.units / unit).exists()

    def systemctl(self, *words: str, advice: str = "") -> CommandStep:
        """Return a call of systemctl for this host."""
        root = () if self.is_running else (f"--root={self.root}",)
        return CommandStep(("systemctl", *root, *words), advice)


@click.command("install-service")
@click.option("--now", "is_now", is_flag=True, help="Start the service immediately, or restart it.")
@click.option(
    "--socket",
    "is_socket",
    is_flag=True,
    help="Let systemd own the port, so that connections wait during a restart instead of failing.",
)
@click.option(
    "--dry-run", "is_dry_run", is_flag=True, help="Print every file and command without changing anything."
)
@click.option("--uninstall", "is_uninstall", is_flag=True, help="Stop and remove the service; keep its data.")
@click.option(
    "--purge",
    "is_purge",
    is_flag=True,
    help="With --uninstall: also remove the configuration and all data, hosted repositories included.",
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="Root of another file system, such as a disk image in preparation.",
)
def install_service(
    *, is_now: bool, is_socket: bool, is_dry_run: bool, is_uninstall: bool, is_purge: bool, root: Path
) -> None:
    """Install mirrord as a systemd service.

    Creates the user mirrord, the units with the paths of this installation, and /etc/mirrord/mirrord.toml
    if it does not exist; the service starts at boot. Run it again after an upgrade.
    """
    if is_purge and not is_uninstall:
        raise click.UsageError("--purge requires --uninstall")
    if is_uninstall and (is_now or is_socket):
        raise click.UsageError("--uninstall cannot be combined with --now or --socket")
    root = root.resolve()
    host, installation = Host(root, is_running=root == Path("/")), Installation.current()
    if is_now and not host.is_running:
        raise click.UsageError("--now cannot be combined with --root")
    if is_uninstall:
        obstacle = _host_obstacle(host)
        steps = plan_removal(installation, host, is_purge=is_purge)
    else:
        obstacle = _configuration_obstacle(host, installation, is_socket=is_socket) or _host_obstacle(host)
        steps = plan_installation(installation, host, is_socket=is_socket, is_now=is_now)
    if is_dry_run:
        _preview(steps, obstacle)
        return
    if obstacle is not None:
        raise CommandError(obstacle)
    _apply(steps)
    click.echo(_removed(host, installation) if is_uninstall else _installed(host, is_now=is_now))


def plan_installation(
    installation: Installation, host: Host, *, is_socket: bool, is_now: bool
) -> Iterator[Step]:
    """Yield the steps to a service that starts at boot, and with `is_now` immediately.

    A socket unit that is already installed is updated even without `is_socket`.
    """
    has_socket = is_socket or host.has_unit(SOCKET)
    socket = FileStep(host.units / SOCKET, template(SOCKET))
    is_new_port = has_socket and not socket.is_done
    root = () if host.is_running else (f"--root={host.root}",)
    yield FileStep(host.sysusers, template(SYSUSERS))
    yield CommandStep(("systemd-sysusers", *root, host.sysusers.name))
    yield FileStep(host.config, configuration(is_socket=has_socket), is_kept=True)
    yield FileStep(host.units / SERVICE, service_unit(installation))
    if has_socket:
        yield socket
    yield LinkStep(host.command, installation.command)
    # The service cannot write this cache; without it, twistd searches for plugins at every start.
    yield CommandStep((str(installation.scripts / "python"), "-I", "-c", _FILL_PLUGIN_CACHE))
    names = (SERVICE, SOCKET) if has_socket else (SERVICE,)
    if host.is_running:
        yield host.systemctl("daemon-reload")
    yield host.systemctl("enable", *names)
    if is_now and is_new_port:
        # The present owner of the port, the service or an earlier socket, has to release it first.
        yield host.systemctl("stop", SOCKET, SERVICE)
    if is_now:
        yield host.systemctl("restart", SERVICE, advice=_START_FAILED)


def plan_removal(installation: Installation, host: Host, *, is_purge: bool) -> Iterator[Step]:
    """Yield the steps that remove the service; with `is_purge`, everything but the installation itself."""
    names = [name for name in (SOCKET, SERVICE) if host.has_unit(name)]
    if names:
        now = ("--now",) if host.is_running else ()
        yield host.systemctl("disable", *now, *names)
    for name in (SOCKET, SERVICE):
        yield RemovalStep(host.units / name)
    yield RemovalStep(host.sysusers)
    if host.command.is_symlink() and host.command.readlink() == installation.command:
        yield RemovalStep(host.command)
    if is_purge:
        yield from map(RemovalStep, host.content)
    if host.is_running:
        yield host.systemctl("daemon-reload")
    if is_purge and host.is_running and service_user() is not None:
        yield CommandStep(("userdel", USER))


def _configuration_obstacle(host: Host, installation: Installation, *, is_socket: bool) -> str | None:
    """Return why this installation or the existing configuration cannot run as requested."""
    try:
        has_socket_listener = host.has_socket_listener
    except (OSError, ValueError) as error:
        return f"cannot read {host.config}: {error}"
    if is_socket and not has_socket_listener:
        return f'--socket requires endpoint = "{SOCKET_ENDPOINT}" in a [[listen]] of {host.config}'
    return installation.service_obstacle()


def _host_obstacle(host: Host) -> str | None:
    if os.geteuid() != 0:
        return "only root can install a service; --dry-run shows the steps"
    if host.is_running and not Path("/run/systemd/system").is_dir():
        return "systemd is not running on this host; --dry-run shows the steps"
    return None


def _preview(steps: Iterable[Step], obstacle: str | None) -> None:
    for step in steps:
        click.echo(step.preview())
    if obstacle is not None:
        click.echo(f"mirrord: without --dry-run this fails: {obstacle}", err=True)


def _apply(steps: Iterable[Step]) -> None:
    # Plan all steps first: the plan depends on files that they change.
    for step in tuple(steps):
        try:
            click.echo(step.apply())
        except (OSError, StepError, subprocess.TimeoutExpired) as error:
            raise CommandError(str(error)) from None


def _installed(host: Host, *, is_now: bool) -> str:
    if is_now:
        return f"mirrord is running and starts at boot. Configuration: {host.config}."
    return f"mirrord starts at the next boot, or by `systemctl start mirrord`. Configuration: {host.config}."


def _removed(host: Host, installation: Installation) -> str:
    kept = [str(path) for path in (*host.content, installation.prefix) if path.exists()]
    return f"Removed the service. Kept: {', '.join(kept)}."
