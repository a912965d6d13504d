"""`mirrord doctor`: what is wrong, and what to do."""

import errno
import os
from collections.abc import Iterator, Mapping

import attrs
import click

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.configuration import environment_of, read_config
from mirrord.cli.diagnosis import Diagnosis, Level, fail, ok, warn
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.formatting import print_json
from mirrord.cli.global_options import GlobalOptions, with_global_options
from mirrord.cli.host_checks import check_certificates, check_disk, check_permissions
from mirrord.cli.listener_checks import check_port, check_pull
from mirrord.cli.upstream_checks import check_clock, check_quota, check_upstreams
from mirrord.config.checks import check_files
from mirrord.config.config import Config

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print a line of JSON for each finding.")
@with_global_options
@click.pass_context
def doctor(context: click.Context, settings: GlobalOptions, *, is_json: bool) -> None:
    """Look for what is wrong, and say what to do.

    It looks at the configuration, the daemon, its ports, certificates, disk and permissions; asks every
    upstream for what costs no pull; and pulls one image, that is held if any is, through the mirror. It
    ends with 1 if anything fails.
    """
    is_well = True
    for finding in _findings(settings):
        is_well = is_well and finding.level is not Level.FAIL
        if is_json:
            print_json(attrs.asdict(finding))
        else:
            _say(finding)
    context.exit(0 if is_well else 1)


def _findings(settings: GlobalOptions) -> Iterator[Diagnosis]:
    name = str(settings.config or "built-in defaults")
    try:
        config = read_config(settings)
        daemon = AdminClient(settings.admin())
    except CommandError as error:
        yield fail("configuration", f"{name}: {error.message}", "mirrord check-config says all that is wrong")
        return
    yield from _check_configuration(name, config, environment_of(settings))
    yield from _check_daemon(daemon)
    is_running = daemon.is_running()
    for listener in config.listen:
        yield from check_port(daemon, listener, is_running=is_running)
        yield from check_certificates(listener)
    yield from check_disk(config.store)
    yield from check_permissions(config, settings)
    seen = yield from check_upstreams(config.upstream, {one.upstream for one in config.listen})
    yield from check_clock(seen)
    yield from check_quota(config.upstream)
    if is_running:
        yield from check_pull(daemon, config.listen)


def _check_configuration(name: str, config: Config, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    lines = check_files(config, environment)
    for line in lines:
        if os.geteuid() != 0 and line.endswith(os.strerror(errno.EACCES)):
            yield warn("configuration", line, "the daemon's user may: look again with sudo")
        else:
            yield fail("configuration", line, "correct it; mirrord check-config looks again")
    if not lines:
        yield ok("configuration", name)


def _check_daemon(daemon: AdminClient) -> Iterator[Diagnosis]:
    try:
        checks = daemon.readiness()
    except DaemonUnreachable as error:
        yield fail(
            "daemon", error.message, "systemctl start mirrord, or mirrord run; its log says why it ended"
        )
        return
    except CommandError as error:
        yield fail(
            "daemon", error.message, "look what else listens there, or name the right place by --admin"
        )
        return
    for name, trouble in checks.items():
        if trouble != "ok":
            yield fail("daemon", f"{name}: {trouble}", "its log says more: journalctl -u mirrord")
    if all(trouble == "ok" for trouble in checks.values()):
        yield ok("daemon", f"ready, at {daemon.address}")


def _say(finding: Diagnosis) -> None:
    level = click.style(f"{finding.level:4}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.subject + ':':15} {finding.text}")
    if finding.advice:
        click.echo(f"{'':22}{finding.advice}")
