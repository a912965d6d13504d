"""Certificates: what one listener proves its names with, renewed while it serves.

Whoever renews (certbot, acme.sh, tailscale, an operator) writes files and tells nobody, so the files
are looked at every two seconds. A renewal is two files, and we may come between them, or be too
early or too late for their permissions; so a pair is taken whole or not at all, and one that is in
trouble is tried again at each look until it is well. What is served meanwhile is what was served.
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

LOOK_SECONDS = 2.0

_Stamp = tuple[tuple[int, ...] | None, ...]


@attrs.frozen
class _Proof:
    """A certificate with its key, ready to be shown."""

    context: SSL.Context
    names: tuple[str, ...]
    begins_at: float
    expires_at: float
    serial: int

    def flaw(self, now: float) -> str | None:
        """Why no client takes it now, if its clock is like ours."""
        if self.expires_at <= now:
            return "expired; renew it"
        return "not valid yet; is the clock right?" if now < self.begins_at else None


@attrs.define(eq=False)
class _Pair:
    """A certificate and its key: their files, what was in them when they were last well, and the trouble."""

    files: CertificateConfig
    client_ca: Path | None
    ciphers: CipherPreference
    proof: _Proof
    stamp: _Stamp
    trouble: str | None = None


@attrs.define(eq=False)
class Certificates:
    """The certificates of a listener; the first is for clients that ask for no name, or an unknown one."""

    _pairs: tuple[_Pair, ...]
    _clock: Any
    _wall_clock: Callable[[], float]
    _contexts: dict[str, SSL.Context] = attrs.field(factory=dict, init=False)
    _looking: LoopingCall | None = attrs.field(default=None, init=False)

    _log = Logger()

    @classmethod
    def load(
        cls,
        pairs: Iterable[CertificateConfig],
        client_ca: Path | None,
        ciphers: CipherPreference,
        clock: Any,
        wall_clock: Callable[[], float],
    ) -> "Certificates":
        """The certificates of these files, of which there is at least one pair.

        `clock` is the reactor's, for looking at the files; `wall_clock` tells what has expired.

        One that has expired, or is not valid yet, is served for want of a better one, and is a trouble.

        Raises:
            OSError: A file cannot be used; the message names it.
        """
        loaded = []
        for files in pairs:
            stamp = _stamp(files, client_ca)
            try:
                proof = _read(files, client_ca, ciphers)
            except ValueError as error:
                raise OSError(str(error)) from None
            loaded.append(_Pair(files, client_ca, ciphers, proof, stamp))
        certificates = cls(tuple(loaded), clock, wall_clock)
        for pair in loaded:
            certificates._serve(pair)
        return certificates

    @property
    def trouble(self) -> str | None:
        """What is wrong with the files, or with what is served of them."""
        now = self._wall_clock()
        faults = []
        for pair in self._pairs:
            if pair.trouble is not None:
                faults.append(pair.trouble)
            elif flaw := pair.proof.flaw(now):
                faults.append(f"{pair.files.certificate}: {flaw}")
        return "; ".join(faults) or None

    @property
    def expiries(self) -> dict[str, float]:
        """When what is served ends, in unix seconds, by its first name; the earliest of several."""
        earliest: dict[str, float] = {}
        for pair in self._pairs:
            name = next(iter(pair.proof.names), str(pair.files.certificate))
            earliest[name] = min(pair.proof.expires_at, earliest.get(name, pair.proof.expires_at))
        return earliest

    def start(self) -> None:
        """Look at the files from now on."""
        self._looking = LoopingCall(self.look)
        self._looking.clock = self._clock
        self._looking.start(LOOK_SECONDS, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.stop()
            self._looking = None

    def look(self) -> None:
        """Take on the pairs whose files have changed, and those that are in trouble."""
        for pair in self._pairs:
            stamp = _stamp(pair.files, pair.client_ca)
            if stamp != pair.stamp or pair.trouble is not None:
                pair.stamp = stamp
                self._renew(pair)

    def reload(self) -> None:
        """Take on all pairs as their files are now; those that cannot be used stay as they were."""
        for pair in self._pairs:
            pair.stamp = _stamp(pair.files, pair.client_ca)
            self._renew(pair)

    def accept(self, connected: socket) -> SSL.Connection:
        """The server's side of TLS over a socket."""
        connection = SSL.Connection(self._pairs[0].proof.context, connected)
        connection.set_accept_state()
        return connection

    def _renew(self, pair: _Pair) -> None:
        try:
            proof = _read(pair.files, pair.client_ca, pair.ciphers)
            if flaw := proof.flaw(self._wall_clock()):
                raise ValueError(f"{pair.files.certificate}: {flaw}")
        except (OSError, ValueError) as error:
            trouble = f"{error}; what was served before still is, until this is mended"
            if trouble != pair.trouble:
                self._log.warn("{trouble}", trouble=trouble)
            pair.trouble = trouble
            return
        is_new = proof.serial != pair.proof.serial or pair.trouble is not None
        pair.proof, pair.trouble = proof, None
        self._serve(pair)
        if is_new:
            self._log.info("{file} is served from now on", file=str(pair.files.certificate))

    def _serve(self, renewed: _Pair) -> None:
        """Have each pair be found by its names, and by those of the first pair first."""
        self._contexts = {
            name: pair.proof.context for pair in reversed(self._pairs) for name in pair.proof.names
        }
        if len(self._pairs) > 1:
            renewed.proof.context.set_tlsext_servername_callback(self._choose)

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("latin-1").lower()
        wildcard = "*." + name.partition(".")[2]
        context = self._contexts.get(name) or self._contexts.get(wildcard)
        if context is not None:
            connection.set_context(context)


def _stamp(files: CertificateConfig, client_ca: Path | None) -> _Stamp:
    """By which it is seen that a file has changed; links are followed, since certbot's live/ is links."""
    paths = (files.certificate, files.key) + (() if client_ca is None else (client_ca,))
    return tuple(map(_stamp_of, paths))


def _stamp_of(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(files: CertificateConfig, client_ca: Path | None, ciphers: CipherPreference) -> _Proof:
    """What stands in the files now.

    Raises:
        ValueError: It cannot be used; the message names the file.
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
        raise ValueError(f"{path}: OpenSSL does not take it: {reason_of(error)}") from None
    own = chain[0]
    begins, ends = own.not_valid_before_utc.timestamp(), own.not_valid_after_utc.timestamp()
    return _Proof(context, _names(own), begins, ends, own.serial_number)


def _names(certificate: Certificate) -> tuple[str, ...]:
    """What a certificate is for: its DNS names, or where it has none, its common name (RFC 6125, 6.4.4)."""
    has_alternatives = alternative_names(certificate) is not None
    names = dns_names(certificate) if has_alternatives else common_names(certificate)
    return tuple(name.lower() for name in names)


def reason_of(error: SSL.Error) -> str:
    """An error of OpenSSL in its own words."""
    reasons = [entry[2] for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    return ", ".join(filter(None, reasons)) or str(error) or type(error).__name__
