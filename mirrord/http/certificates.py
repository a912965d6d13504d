"""The certificates of a listener, renewed while it serves.

A renewal tool (certbot, acme.sh, tailscale, an operator) writes files without a notification, so the files
are checked every two seconds. A renewal replaces two files, and a check may come between the two, or before
their permissions are set. So a pair is loaded as a whole or not at all, and one that cannot be loaded is
tried again at every check. Meanwhile the previous certificate stays in use.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from socket import socket
from typing import Any

import attrs
from cryptography.x509 import Certificate
from OpenSSL import SSL
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from mirrord.config.config import CertificateConfig
from mirrord.config.pem import alternative_names, common_names, dns_names, read_certificates, read_key
from mirrord.http.tls_context import CipherPreference, server_context

CHECK_SECONDS = 2.0

_Stamp = tuple[tuple[int, ...] | None, ...]
"""Modification time, size and inode of each file; None for a file that does not exist."""


@attrs.frozen(kw_only=True)
class _LoadedPair:
    """A certificate and its key, ready for use."""

    context: SSL.Context
    names: tuple[str, ...]
    begins_at: float
    expires_at: float
    serial: int

    def problem(self, now: float) -> str | None:
        """Return why no client accepts it now, if the clients' clocks are right."""
        if self.expires_at <= now:
            return "expired; renew it"
        return "not valid yet; is the clock right?" if now < self.begins_at else None


@attrs.define(eq=False, kw_only=True)
class _Pair:
    """The files of a certificate and its key, what was last loaded from them, and why they are unusable."""

    files: CertificateConfig
    client_ca: Path | None
    ciphers: CipherPreference
    loaded: _LoadedPair
    stamp: _Stamp
    problem: str | None = None


@attrs.define(eq=False)
class Certificates:
    """The certificates of a listener; the first is for clients that send no or an unknown server name."""

    _pairs: tuple[_Pair, ...]
    _clock: Any
    _wall_clock: Callable[[], float]
    _contexts: dict[str, SSL.Context] = attrs.field(factory=dict, init=False)
    _checking: LoopingCall | None = attrs.field(default=None, init=False)

    _log = Logger()

    @classmethod
    def load(
        cls,
        pairs: Iterable[CertificateConfig],
        *,
        client_ca: Path | None,
        ciphers: CipherPreference,
        clock: Any,
        wall_clock: Callable[[], float],
    ) -> "Certificates":
        """Return the certificates of one or more pairs of files.

        `clock` is the reactor's, for the checks; `wall_clock` decides what has expired. A certificate that
        has expired or is not valid yet is used, as there is no better one, and reported as a problem.

        Raises:
            OSError: A file is unusable; the message names it.
        """
        loaded = []
        for files in pairs:
            stamp = _stamp(files, client_ca)
            try:
                pair = _load(files, client_ca, ciphers)
            except ValueError as error:
                raise OSError(str(error)) from None
            loaded.append(_Pair(files=files, client_ca=client_ca, ciphers=ciphers, loaded=pair, stamp=stamp))
        certificates = cls(tuple(loaded), clock, wall_clock)
        for each in loaded:
            certificates._use(each)
        return certificates

    @property
    def problem(self) -> str | None:
        """The problem of the files or of the certificates in use; None if there is none."""
        now = self._wall_clock()
        problems = []
        for pair in self._pairs:
            if pair.problem is not None:
                problems.append(pair.problem)
            elif problem := pair.loaded.problem(now):
                problems.append(f"{pair.files.certificate}: {problem}")
        return "; ".join(problems) or None

    @property
    def expiries(self) -> dict[str, float]:
        """When the certificates in use expire, in Unix seconds: the earliest of each first name."""
        earliest: dict[str, float] = {}
        for pair in self._pairs:
            name = next(iter(pair.loaded.names), str(pair.files.certificate))
            earliest[name] = min(pair.loaded.expires_at, earliest.get(name, pair.loaded.expires_at))
        return earliest

    def start(self) -> None:
        """Check the files from now on."""
        self._checking = LoopingCall(self.check)
        self._checking.clock = self._clock
        self._checking.start(CHECK_SECONDS, now=False)

    def stop(self) -> None:
        """Stop checking the files."""
        if self._checking is not None:
            self._checking.stop()
            self._checking = None

    def check(self) -> None:
        """Load the pairs whose files have changed, and those that could not be loaded."""
        for pair in self._pairs:
            stamp = _stamp(pair.files, pair.client_ca)
            if stamp != pair.stamp or pair.problem is not None:
                pair.stamp = stamp
                self._renew(pair)

    def reload(self) -> None:
        """Load all pairs again; one that is unusable stays as it was."""
        for pair in self._pairs:
            pair.stamp = _stamp(pair.files, pair.client_ca)
            self._renew(pair)

    def accept(self, connected: socket) -> SSL.Connection:
        """Return the server side of TLS over a socket."""
        connection = SSL.Connection(self._pairs[0].loaded.context, connected)
        connection.set_accept_state()
        return connection

    def _renew(self, pair: _Pair) -> None:
        try:
            loaded = _load(pair.files, pair.client_ca, pair.ciphers)
            if problem := loaded.problem(self._wall_clock()):
                raise ValueError(f"{pair.files.certificate}: {problem}")
        except (OSError, ValueError) as error:
            problem = f"{error}; the previous certificate stays in use until this is repaired"
            if problem != pair.problem:
                self._log.warn("{trouble}", trouble=problem)
            pair.problem = problem
            return
        is_new = loaded.serial != pair.loaded.serial or pair.problem is not None
        pair.loaded, pair.problem = loaded, None
        self._use(pair)
        if is_new:
            self._log.info("certificate {file} loaded", file=str(pair.files.certificate))

    def _use(self, renewed: _Pair) -> None:
        """Look up each pair by its names; of pairs with a name in common, the first is used."""
        self._contexts = {
            name: pair.loaded.context for pair in reversed(self._pairs) for name in pair.loaded.names
        }
        if len(self._pairs) > 1:
            renewed.loaded.context.set_tlsext_servername_callback(self._choose)

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("latin-1").lower()
        wildcard = "*." + name.partition(".")[2]
        context = self._contexts.get(name) or self._contexts.get(wildcard)
        if context is not None:
            connection.set_context(context)


def _stamp(files: CertificateConfig, client_ca: Path | None) -> _Stamp:
    """Return what changes with the files. Links are followed, since certbot's live/ consists of links."""
    paths = (files.certificate, files.key) + (() if client_ca is None else (client_ca,))
    return tuple(map(_file_stamp, paths))


def _file_stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load(files: CertificateConfig, client_ca: Path | None, ciphers: CipherPreference) -> _LoadedPair:
    """Load a pair from its files.

    Raises:
        ValueError: It is unusable; the message names the file.
    """
    path = files.certificate
    try:
        chain = read_certificates(path)
        path = files.key
        key = read_key(path, chain[0])
        path = client_ca or files.certificate
        context = server_context(chain, key, client_ca, ciphers)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except SSL.Error as error:
        raise ValueError(f"{path}: rejected by OpenSSL: {reason_of(error)}") from None
    own = chain[0]
    return _LoadedPair(
        context=context,
        names=_names(own),
        begins_at=own.not_valid_before_utc.timestamp(),
        expires_at=own.not_valid_after_utc.timestamp(),
        serial=own.serial_number,
    )


def _names(certificate: Certificate) -> tuple[str, ...]:
    """Return a certificate's DNS names, or its common name if it has none (RFC 6125, section 6.4.4)."""
    has_alternatives = alternative_names(certificate) is not None
    names = dns_names(certificate) if has_alternatives else common_names(certificate)
    return tuple(name.lower() for name in names)


def reason_of(error: SSL.Error) -> str:
    """Return OpenSSL's own words for an error."""
    reasons = [entry[2] for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(filter(None, reasons)) or str(error) or type(error).__name__
