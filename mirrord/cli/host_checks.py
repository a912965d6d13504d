"""Checks of this host: certificates, disk space, permissions."""

import os
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import Certificate

from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.formatting import format_duration, format_size
from mirrord.cli.global_options import SERVICE_CONFIG, GlobalOptions
from mirrord.cli.systemd_units import USER, service_user
from mirrord.config.config import Config, ListenConfig, StoreConfig
from mirrord.config.pem import alternative_names, read_certificates
from mirrord.config.types import is_credential

_RENEW_DAYS = 14
_RENEW = "renew it; the daemon loads new files by itself"
_MIN_FREE_INODES = 1000
_READ_BY_OTHERS = 0o004
_ACCESS_BY_OTHERS = 0o007


def check_certificates(listener: ListenConfig) -> Iterator[Diagnosis]:
    """Check the validity and the names of a listener's certificates, and the permissions of their keys."""
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


def check_disk(store: StoreConfig) -> Iterator[Diagnosis]:
    """Check that the disk has room for more content."""
    status = os.statvfs(_nearest_existing(store.path))
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    text = f"{format_size(free)} of {format_size(total)} are free at {store.path}"
    if free < store.min_free:
        limit = format_size(store.min_free)
        advice = "free some space; until then, new content is not cached"
        yield warn("disk", f"{text}, less than min_free ({limit})", advice)
    elif status.f_files and status.f_favail < _MIN_FREE_INODES:
        yield warn("disk", f"{text}, but only {status.f_favail} inodes", "remove files from the file system")
    elif store.max_size is not None and store.max_size > total:
        advice = "lower max_size; only min_free limits the store now"
        yield warn("disk", f"{text}; max_size exceeds the size of the disk", advice)
    else:
        yield ok("disk", text)


def check_permissions(config: Config, options: GlobalOptions) -> Iterator[Diagnosis]:
    """Check that the daemon may use its store, and that other users cannot read its secrets."""
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
    """Return the path, or its first ancestor that exists."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
