"""The doctor's look at this host: certificates, disk, permissions."""

import os
import pwd
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import Certificate, load_pem_x509_certificate

from mirrord.cli.diagnosis import Diagnosis, fail, ok, warn
from mirrord.cli.formatting import format_duration, format_size
from mirrord.cli.global_options import SERVICE_CONFIG, GlobalOptions
from mirrord.config.config import Config, ListenConfig, StoreConfig
from mirrord.config.pem import alternative_names

_RENEW_DAYS = 14
_RENEW = "renew it; the daemon sees new files by itself"
_FEW_FILES = 1000
_READ_BY_OTHERS = 0o004
_OPEN_TO_OTHERS = 0o007
_SERVICE_USER = "mirrord"


def check_certificates(listener: ListenConfig) -> Iterator[Diagnosis]:
    """Whether the certificates of a listener hold, for how long, and for which names."""
    for pair in listener.pairs:
        try:
            certificate = load_pem_x509_certificate(pair.certificate.read_bytes())
        except (OSError, ValueError):
            continue  # said of the configuration
        yield _check_certificate(certificate, pair.certificate, datetime.now(UTC))
        yield from _check_secret("certificate", pair.key)


def _check_certificate(certificate: Certificate, path: Path, now: datetime) -> Diagnosis:
    names = [str(name.value) for name in alternative_names(certificate) or ()]
    left = certificate.not_valid_after_utc - now
    told = f"{path} is for {', '.join(names) or 'nobody'}, for {format_duration(left.total_seconds())} more"
    if not names:
        return fail("certificate", told, "clients want a subject alternative name: make another")
    if certificate.not_valid_before_utc > now:
        return fail("certificate", f"{told}, and not valid yet", "is the clock right?")
    if left.total_seconds() <= 0:
        return fail("certificate", f"{path} has expired", _RENEW)
    if left.days < _RENEW_DAYS:
        return warn("certificate", told, _RENEW)
    return ok("certificate", told)


def check_disk(store: StoreConfig) -> Iterator[Diagnosis]:
    """Whether there is room for what is pulled."""
    folder = _nearest(store.path)
    found = os.statvfs(folder)
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    told = f"{format_size(free)} of {format_size(total)} are free at {store.path}"
    if free < store.min_free:
        least = format_size(store.min_free)
        yield warn(
            "disk", f"{told}, less than min_free ({least})", "make room, or what is pulled is not kept"
        )
    elif found.f_files and found.f_favail < _FEW_FILES:
        yield warn("disk", f"{told}, but hardly a file more can be made", "the file system is out of inodes")
    elif store.max_size is not None and store.max_size > total:
        yield warn(
            "disk", f"{told}; max_size is more than there is", "lower it; min_free bounds the store now"
        )
    else:
        yield ok("disk", told)


def check_permissions(config: Config, settings: GlobalOptions) -> Iterator[Diagnosis]:
    """Whether the daemon may use its store, and others may not read its secrets."""
    yield _check_owner(config.store.path, is_service=settings.config == SERVICE_CONFIG)
    for upstream in config.upstream:
        for account in upstream.account:
            if not account.password_file.startswith("credential:"):
                yield from _check_secret("permissions", Path(account.password_file))


def _check_owner(path: Path, *, is_service: bool) -> Diagnosis:
    if not path.exists():
        is_well = os.access(_nearest(path), os.W_OK)
        if is_well or is_service:
            return ok("permissions", f"{path} is made at the start")
        return fail(
            "permissions", f"{path} cannot be made by you", "name another store.path, or install-service"
        )
    owner = path.stat().st_uid
    if is_service and _uid(_SERVICE_USER) not in {None, owner}:
        return fail(
            "permissions",
            f"{path} belongs to {_name(owner)}",
            f"chown -R {_SERVICE_USER}: {path}, and restart",
        )
    if path.stat().st_mode & _OPEN_TO_OTHERS:
        return warn(
            "permissions", f"others may look into {path}", f"chmod o-rwx {path}: private images are there"
        )
    return ok("permissions", f"{path} belongs to {_name(owner)}")


def _check_secret(subject: str, path: Path) -> Iterator[Diagnosis]:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & _READ_BY_OTHERS:
        yield warn(subject, f"everybody may read {path}", f"chmod o-rwx {path}")


def _nearest(path: Path) -> Path:
    """The path, or the first above it that exists."""
    absolute = path.absolute()
    return next(folder for folder in (absolute, *absolute.parents) if folder.exists())


def _uid(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
