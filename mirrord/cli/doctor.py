"""`mirrord doctor`: problems, and what to do about them.

The checks of the configuration, the daemon and this host are here, the others in `listener_checks` and
`upstream_checks`.
"""

import errno
import os
import pwd
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import click
from cryptography.x509 import Certificate

from mirrord.cli.admin_client import AdminClient
from mirrord.cli.configuration import read_config
from mirrord.cli.diagnosis import Diagnosis, Level, fail, ok, warn
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.formatting import format_count, format_duration, format_size, print_json
from mirrord.cli.global_options import SERVICE_CONFIG, GlobalOptions, with_global_options
from mirrord.cli.listener_checks import check_port, check_pull
from mirrord.cli.ownership import Owner
from mirrord.cli.systemd_units import USER, service_user
from mirrord.cli.upstream_checks import check_clock, check_quota, check_upstreams
from mirrord.config.checks import check_files
from mirrord.config.config import Config, ListenConfig, StoreConfig
from mirrord.config.pem import alternative_names, read_certificates
from mirrord.config.types import is_credential
from mirrord.oci.names import DOCKER_HUB
from mirrord.store.layout import Layout

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
_RENEW_DAYS = 14
_RENEW = "renew it; the daemon loads new files by itself"
_MIN_FREE_INODES = 1000
_READ_BY_OTHERS = 0o004
_ACCESS_BY_OTHERS = 0o007


@click.command()
@click.option("--json", "is_json", is_flag=True, help="Print one line of JSON per result.")
@with_global_options
@click.pass_context
def doctor(context: click.Context, options: GlobalOptions, *, is_json: bool) -> None:
    """Diagnose problems and suggest fixes.

    Checks the configuration, the daemon, its ports, certificates, disk space and permissions; sends every
    upstream requests that do not count as pulls; and pulls one image through the mirror, a cached one if
    there is any. Run by root, it checks the service with the rights of the service's user. Exits with status
    1 if a check fails.
    """
    has_failed = False
    is_daemon_user = _become_service_user(options)
    for diagnosis in _run_checks(options, is_daemon_user=is_daemon_user):
        has_failed = has_failed or diagnosis.level is Level.FAIL
        if is_json:
            print_json(attrs.asdict(diagnosis))
        else:
            _print(diagnosis)
    context.exit(1 if has_failed else 0)


def _become_service_user(options: GlobalOptions) -> bool:
    """Become the user of the service, so that the checks see what the daemon sees; return whether we have.

    The service could otherwise have root read any file in place of its own.
    """
    user = service_user() if os.geteuid() == 0 and options.config == SERVICE_CONFIG else None
    if user is not None:
        Owner(user.pw_uid, user.pw_gid).become()
    return user is not None


def _run_checks(options: GlobalOptions, *, is_daemon_user: bool) -> Iterator[Diagnosis]:
    name = str(options.config or "built-in defaults")
    try:
        config = read_config(options)
        daemon, commands = AdminClient(options.admin()), AdminClient(options.commands())
    except CommandError as error:
        advice = "fix the errors, then run mirrord check-config"
        yield fail("configuration", f"{name}: {error.message}", advice)
        return
    yield from _check_configuration(name, config, options.environment, is_daemon_user=is_daemon_user)
    yield from _check_daemon(daemon)
    is_running = daemon.is_running()
    if is_running:
        yield from _check_quarantine(daemon, Layout(config.store.path, config.hosted_folder).quarantine)
    for listener in config.listen:
        if (port := check_port(daemon, listener, is_running=is_running)) is not None:
            yield port
        yield from _check_certificates(listener)
    yield _check_disk(config.store)
    yield from _check_permissions(config, options)
    checks = check_upstreams(config.upstream, {one.upstream for one in config.listen})
    yield from (check.diagnosis for check in checks)
    yield check_clock(checks)
    yield from (check_quota(one) for one in config.upstream if one.name == DOCKER_HUB)
    if is_running:
        yield check_pull(daemon, commands, config.listen)


def _check_configuration(
    name: str, config: Config, environment: Mapping[str, str], *, is_daemon_user: bool
) -> Iterator[Diagnosis]:
    lines = list(check_files(config, environment))
    for line in lines:
        if line.endswith(os.strerror(errno.EACCES)) and is_daemon_user:
            yield fail("configuration", line, f"allow the user {USER} to read it")
        elif line.endswith(os.strerror(errno.EACCES)) and os.geteuid() != 0:
            yield warn("configuration", line, "the daemon's user may have access; try again with sudo")
        else:
            yield fail("configuration", line, "fix the error, then run mirrord check-config")
    if not lines:
        yield ok("configuration", name)


def _check_daemon(daemon: AdminClient) -> Iterator[Diagnosis]:
    try:
        checks = daemon.readiness()
    except CommandError as error:
        advice = "check which process listens there, or use --admin"
        if isinstance(error, DaemonUnreachable):
            advice = "systemctl start mirrord, or mirrord run; if it stopped by itself, see its log"
        yield fail("daemon", error.message, advice)
        return
    problems = {name: result for name, result in checks.items() if result != "ok"}
    for name, problem in problems.items():
        yield fail("daemon", f"{name}: {problem}", "see the log: journalctl -u mirrord")
    if not problems:
        yield ok("daemon", f"ready at {daemon.address}")


def _check_quarantine(daemon: AdminClient, folder: Path) -> Iterator[Diagnosis]:
    """Report hosted content in quarantine; nothing if there is none."""
    quarantine = (daemon.fetch("GET", "/status").get("hosted") or {}).get("quarantine") or {}
    if quarantine.get("entries"):
        count, size = format_count(quarantine["entries"], "file"), format_size(quarantine["bytes"])
        yield warn(
            "quarantine",
            f"{count}, {size}, of hosted repositories in {folder}: damaged, or no record accounts for it; "
            "not served",
            f"see ls -l {folder}, and the log for the reasons; push again what clients miss, or wait: "
            "each file is deleted after 30 days",
        )


def _print(diagnosis: Diagnosis) -> None:
    level = click.style(f"{diagnosis.level:4}", fg=_COLOURS[diagnosis.level])
    lines = [*diagnosis.text.splitlines(), *diagnosis.advice.splitlines()]
    click.echo(f"{level}  {diagnosis.subject + ':':15} " + f"\n{'':22}".join(lines))


def _check_certificates(listener: ListenConfig) -> Iterator[Diagnosis]:
    for pair in listener.pairs:
        try:
            certificate = read_certificates(pair.certificate)[0]
        except (OSError, ValueError):
            continue  # reported by the check of the configuration
        yield _check_certificate(certificate, pair.certificate, datetime.now(UTC))
        yield from _check_secret("certificate", pair.key)


def _check_certificate(certificate: Certificate, path: Path, now: datetime) -> Diagnosis:
    names = [str(name.value) for name in alternative_names(certificate) or ()]
    left = certificate.not_valid_after_utc - now
    if not names:
        return fail(
            "certificate", f"{path} has no subject alternative name", "clients require one: replace it"
        )
    if left.total_seconds() <= 0:
        return fail("certificate", f"{path} has expired", _RENEW)
    text = f"{path} is valid for {', '.join(names)} and expires in {format_duration(left.total_seconds())}"
    if certificate.not_valid_before_utc > now:
        return fail("certificate", f"{path} is not valid yet", "check the clock of this host")
    if left.days < _RENEW_DAYS:
        return warn("certificate", text, _RENEW)
    return ok("certificate", text)


def _check_disk(store: StoreConfig) -> Diagnosis:
    status = os.statvfs(_nearest_existing(store.path))
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    text = f"{format_size(free)} of {format_size(total)} are free at {store.path}"
    if free < store.min_free:
        limit = format_size(store.min_free)
        advice = "free some space; until then, new content is not cached"
        return warn("disk", f"{text}, less than min_free ({limit})", advice)
    if status.f_files and status.f_favail < _MIN_FREE_INODES:
        return warn("disk", f"{text}, but only {status.f_favail} inodes", "remove files from the file system")
    if store.max_size is not None and store.max_size > total:
        advice = "lower max_size; only min_free limits the store now"
        return warn("disk", f"{text}; max_size exceeds the size of the disk", advice)
    return ok("disk", text)


def _check_permissions(config: Config, options: GlobalOptions) -> Iterator[Diagnosis]:
    yield _check_owner(config.store.path, is_service=options.config == SERVICE_CONFIG)
    for upstream in config.upstream:
        for account in upstream.account:
            if not is_credential(account.password_file):
                yield from _check_secret("permissions", Path(account.password_file))


def _check_owner(path: Path, *, is_service: bool) -> Diagnosis:
    if not path.exists():
        if is_service or os.access(_nearest_existing(path), os.W_OK):
            return ok("permissions", f"{path} will be created at the first start")
        advice = "configure another store.path, or use mirrord install-service"
        return fail("permissions", f"you have no permission to create {path}", advice)
    owner = path.stat().st_uid
    user = service_user() if is_service else None
    if user is not None and user.pw_uid != owner:
        advice = f"chown -R {USER}: {path}, and restart"
        return fail("permissions", f"{path} belongs to {_user_name(owner)}", advice)
    if path.stat().st_mode & _ACCESS_BY_OTHERS:
        advice = f"chmod o-rwx {path}: it may contain private images"
        return warn("permissions", f"other users can access {path}", advice)
    return ok("permissions", f"{path} belongs to {_user_name(owner)}")


def _check_secret(subject: str, path: Path) -> Iterator[Diagnosis]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & _READ_BY_OTHERS:
        yield warn(subject, f"{path} is world-readable", f"chmod o-rwx {path}")


def _nearest_existing(path: Path) -> Path:
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
