"""`mirrord install-service`: mirrord under systemd, from where it is installed."""

import os
from collections.abc import Iterable
from pathlib import Path
from subprocess import TimeoutExpired

import click

from mirrord.cli.exit_status import CommandError
from mirrord.cli.host import Host, installing, uninstalling
from mirrord.cli.steps import Step, StepError
from mirrord.cli.systemd_units import SOCKET_ENDPOINT, Installation


@click.command("install-service")
@click.option("--now", "is_now", is_flag=True, help="Start it at once, or restart it if it runs.")
@click.option(
    "--socket", "is_socket", is_flag=True, help="Let systemd hold the port: a restart refuses no connection."
)
@click.option(
    "--dry-run", "is_dry_run", is_flag=True, help="Print every file and command, and touch nothing."
)
@click.option("--uninstall", "is_uninstall", is_flag=True, help="Stop and remove the service; keep content.")
@click.option(
    "--purge", "is_purge", is_flag=True, help="With --uninstall: remove configuration and cache too."
)
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="/",
    help="The root of another file system, such as an image that is being made.",
)
def install_service(
    *, is_now: bool, is_socket: bool, is_dry_run: bool, is_uninstall: bool, is_purge: bool, root: Path
) -> None:
    """Run mirrord under systemd, from boot on.

    Makes the user mirrord, /etc/mirrord/mirrord.toml (never overwritten) and the units, with the paths of
    this installation. It is safe to run again, after an upgrade for one.
    """
    if is_purge and not is_uninstall:
        raise click.UsageError("--purge goes with --uninstall")
    if is_uninstall and (is_now or is_socket):
        raise click.UsageError("--uninstall goes with neither --now nor --socket")
    root = root.resolve()
    host, installation = Host(root, is_running=root == Path("/")), Installation.current()
    if is_now and not host.is_running:
        raise click.UsageError("--now starts nothing below another --root")
    if is_uninstall:
        refusal = _refusal(host)
        steps = uninstalling(installation, host, is_purge=is_purge)
    else:
        refusal = _misfit(host, installation, is_socket=is_socket) or _refusal(host)
        steps = installing(installation, host, is_socket=is_socket, is_now=is_now)
    if is_dry_run:
        _show(steps, refusal)
        return
    if refusal is not None:
        raise CommandError(refusal)
    _take(steps)
    click.echo(_removed(host, installation) if is_uninstall else _installed(host, is_now=is_now))


def _misfit(host: Host, installation: Installation, *, is_socket: bool) -> str | None:
    """Why this installation, or the configuration that is there, cannot be run as it is asked for."""
    try:
        is_listening_by_socket = host.is_listening_by_socket
    except (OSError, ValueError) as error:
        return f"{host.config} cannot be read: {error}"
    if is_socket and not is_listening_by_socket:
        return f'--socket needs endpoint = "{SOCKET_ENDPOINT}" in a [[listen]] of {host.config}'
    return installation.objection()


def _refusal(host: Host) -> str | None:
    """Why nothing can be changed here."""
    if os.geteuid() != 0:
        return "only root can install a service; --dry-run shows what it would do"
    if host.is_running and not Path("/run/systemd/system").is_dir():
        return "systemd does not run here; --dry-run shows what it would do"
    return None


def _show(steps: Iterable[Step], refusal: str | None) -> None:
    for step in steps:
        click.echo(step.show())
    if refusal is not None:
        click.echo(f"mirrord: without --dry-run: {refusal}", err=True)


def _take(steps: Iterable[Step]) -> None:
    # All of them are worked out first: what one of them changes must not change the plan.
    for step in tuple(steps):
        try:
            click.echo(step.take())
        except (OSError, StepError, TimeoutExpired) as error:
            raise CommandError(str(error)) from None


def _installed(host: Host, *, is_now: bool) -> str:
    if is_now:
        return f"mirrord runs, now and after every boot. Its configuration is {host.config}."
    return (
        f"mirrord runs after the next boot, or `systemctl start mirrord`. Its configuration is {host.config}."
    )


def _removed(host: Host, installation: Installation) -> str:
    kept = [str(path) for path in (*host.content, installation.prefix) if path.exists()]
    return f"mirrord is no service any more. Kept: {', '.join(kept)}."
