"""`mirrord doctor`: problems, and what to do about them."""

import errno
import os
from collections.abc import Iterator, Mapping

import attrs
import click

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.configuration import read_config, service_environment
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
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per result.")
@with_global_options
@click.pass_context
def doctor(context: click.Context, options: GlobalOptions, *, is_json: bool) -> None:
    """Diagnose problems and suggest fixes.

    Checks the configuration, the daemon, its ports, certificates, disk space and permissions; sends every
    upstream requests that do not count as pulls; and pulls one image through the mirror, a cached one if
    there is any. Exits with status 1 if a check fails.
    """
    has_failed = False
    for diagnosis in _run_checks(options):
        has_failed = has_failed or diagnosis.level is Level.FAIL
        if is_json:
            print_json(attrs.asdict(diagnosis))
        else:
            _print(diagnosis)
    context.exit(1 if has_failed else 0)


def _run_checks(options: GlobalOptions) -> Iterator[Diagnosis]:
    name = str(options.config or "built-in defaults")
    try:
        config = read_config(options)
        daemon = AdminClient(options.admin())
    except CommandError as error:
        advice = "fix the errors, then run mirrord check-config"
        yield fail("configuration", f"{name}: {error.message}", advice)
        return
    yield from _check_configuration(name, config, service_environment(options))
    yield from _check_daemon(daemon)
    is_running = daemon.is_running()
    for listener in config.listen:
        yield from check_port(daemon, listener, is_running=is_running)
        yield from check_certificates(listener)
    yield from check_disk(config.store)
    yield from check_permissions(config, options)
    results = yield from check_upstreams(config.upstream, {one.upstream for one in config.listen})
    yield from check_clock(results)
    yield from check_quota(config.upstream)
    if is_running:
        yield from check_pull(daemon, config.listen)


def _check_configuration(name: str, config: Config, environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    lines = check_files(config, environment)
    for line in lines:
        if os.geteuid() != 0 and line.endswith(os.strerror(errno.EACCES)):
            yield warn("configuration", line, "the daemon's user may have access; try again with sudo")
        else:
            yield fail("configuration", line, "fix the error, then run mirrord check-config")
    if not lines:
        yield ok("configuration", name)


def _check_daemon(daemon: AdminClient) -> Iterator[Diagnosis]:
    try:
        checks = daemon.readiness()
    except DaemonUnreachable as error:
        advice = "systemctl start mirrord, or mirrord run; if it stopped by itself, see its log"
        yield fail("daemon", error.message, advice)
        return
    except CommandError as error:
        advice = "check which process listens there, or use --admin"
        yield fail("daemon", error.message, advice)
        return
    problems = {name: result for name, result in checks.items() if result != "ok"}
    for name, problem in problems.items():
        yield fail("daemon", f"{name}: {problem}", "see the log: journalctl -u mirrord")
    if not problems:
        yield ok("daemon", f"ready at {daemon.address}")


def _print(diagnosis: Diagnosis) -> None:
    level = click.style(f"{diagnosis.level:4}", fg=_COLOURS[diagnosis.level])
    click.echo(f"{level}  {diagnosis.subject + ':':15} {diagnosis.text}")
    if diagnosis.advice:
        click.echo(f"{'':22}{diagnosis.advice}")
