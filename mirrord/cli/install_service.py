"""`mirrord install-service`: this installation of mirrord as a systemd service."""

import os
from collections.abc import Iterable
from pathlib import Path
from subprocess import TimeoutExpired

import click

from mirrord.cli.exit_status import CommandError
from mirrord.cli.service_installation import Host, Step, StepError, plan_installation, plan_removal
from mirrord.cli.systemd_units import SOCKET_ENDPOINT, Installation


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
    """Return why the host cannot be changed."""
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
        except (OSError, StepError, TimeoutExpired) as error:
            raise CommandError(str(error)) from None


def _installed(host: Host, *, is_now: bool) -> str:
    if is_now:
        return f"mirrord is running and starts at boot. Configuration: {host.config}."
    return f"mirrord starts at the next boot, or by `systemctl start mirrord`. Configuration: {host.config}."


def _removed(host: Host, installation: Installation) -> str:
    kept = [str(path) for path in (*host.content, installation.prefix) if path.exists()]
    return f"Removed the service. Kept: {', '.join(kept)}."
