"""The users of an htpasswd file, which may change at any time, and the check of their passwords.

bcrypt is slow on purpose, a tenth of a second and more on a Raspberry Pi. So it runs in a thread (it
releases the GIL), a few at a time; a correct password is remembered as a keyed hash (proven_logins.py); and a
client that sends the same one while it is being checked waits for that result. The check takes the same time
for an unknown user as for a wrong password.

A flood of wrong passwords must not keep right ones out. A remembered one needs no check, and some of the
concurrent checks are reserved for users who have logged in from the same network before.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import attrs
import bcrypt
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.access.login_throttle import LoginThrottle
from mirrord.access.proven_logins import ProvenLogins
from mirrord.config.addresses import client_network
from mirrord.config.htpasswd import read_users
from mirrord.flight.single import SingleFlight
from mirrord.observe.events import Event
from mirrord.oci.errors import TooManyRequests

STAT_SECONDS = 1.0
MAX_CHECKS = 16
"""Concurrent checks, running or queued: two seconds of work on a Raspberry Pi, or one on two cores."""

RESERVED_CHECKS = 4
"""Those of them that are for users at a network from which they have logged in before."""

_MAX_BYTES = 72
"""bcrypt ignores the rest, and `htpasswd` cuts there too; the library raises for a longer one."""

_NO_HASH = b"." * 53

_Stamp = tuple[int, ...] | None

RunInThread = Callable[[Callable[[], bool]], Deferred[bool]]


@attrs.define(eq=False, kw_only=True)
class Users:
    """The users of an htpasswd file; `failed_logins` counts wrong user names and passwords.

    `clock` returns monotonic seconds; `sleep(seconds)` returns a Deferred; `problem` is the error of the file
    since it was last read successfully.
    """

    file: Path
    _run_in_thread: RunInThread
    _clock: Callable[[], float]
    _sleep: Callable[[float], Deferred[None]]
    _throttle: LoginThrottle
    _proven: ProvenLogins
    _hashes: dict[str, bytes] = attrs.field(repr=False)
    _stamp: _Stamp
    problem: str | None = attrs.field(default=None, init=False)
    failed_logins: int = attrs.field(default=0, init=False)
    _decoy: bytes = attrs.field(default=b"", init=False, repr=False)
    _checked_at: float = attrs.field(default=0.0, init=False)
    _secret: bytes = attrs.field(factory=lambda: os.urandom(32), init=False, repr=False)
    _checks: SingleFlight[bytes, bytes | None] = attrs.field(factory=SingleFlight, init=False)
    _checking: int = attrs.field(default=0, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._checked_at = self._clock()
        self._decoy = _decoy(self._hashes)

    @classmethod
    def load(
        cls,
        file: Path,
        *,
        run_in_thread: RunInThread,
        clock: Callable[[], float],
        sleep: Callable[[float], Deferred[None]],
    ) -> Self:
        """Read the users of this file.

        Raises:
            OSError: The file cannot be read; the message names it.
        """
        stamp = _stamp(file)
        try:
            hashes = read_users(file)
        except ValueError as error:
            raise OSError(f"{file}: {error}") from None
        return cls(
            file=file,
            run_in_thread=run_in_thread,
            clock=clock,
            sleep=sleep,
            throttle=LoginThrottle(clock),
            proven=ProvenLogins(clock),
            hashes=hashes,
            stamp=stamp,
        )

    def password_hash(self, username: str) -> bytes | None:
        """Return the hash that the file has for this user now; None if there is no such user."""
        self._reload_if_changed()
        return self._hashes.get(username)

    async def check(self, username: str, password: str, address: str) -> bytes | None:
        """Return the hash of this user that the password matches; None if it is wrong.

        After several wrong passwords the result is delayed by a few seconds, unless this password was found
        correct recently, for a client in the same network as this `address`.

        Raises:
            TooManyRequests: Too many attempts are delayed or being checked; this one was not checked.
        """
        hashed, network = self.password_hash(username), client_network(address)
        login = self._fingerprint(username, password, network, hashed or b"")
        if hashed is not None and self._proven.is_proven(username, network, login):
            return hashed
        return await self._checks.run(login, lambda: self._check(username, password, address))

    def reload(self) -> None:
        """Read the file again; one with an error changes nothing, and the error is logged once."""
        self._stamp = _stamp(self.file)
        try:
            self._hashes = read_users(self.file)
        except (OSError, ValueError) as error:
            problem = f"{self.file}: {getattr(error, 'strerror', None) or error}"
            if problem != self.problem:
                self._log.warn(
                    "users not reloaded; the previous ones stay in effect: {problem}", problem=problem
                )
            self.problem = problem
        else:
            self.problem = None
            self._decoy = _decoy(self._hashes)

    def _reload_if_changed(self) -> None:
        """Read the file again if it has changed; checks that once a second at most."""
        now = self._clock()
        if now - self._checked_at < STAT_SECONDS:
            return
        self._checked_at = now
        if _stamp(self.file) != self._stamp:
            self.reload()

    async def _check(self, username: str, password: str, address: str) -> bytes | None:
        network = client_network(address)
        is_known = self._proven.is_known(username, network)
        attempt = self._throttle.begin(username, network, is_known=is_known)
        try:
            if attempt.delay:
                await self._sleep(attempt.delay)
            hashed = self._hashes.get(username)
            is_match = await self._compare(password, hashed or self._decoy, is_known=is_known)
        except Exception:
            attempt.subtract()
            raise
        if not is_match or hashed is None:
            self.failed_logins += 1
            self._log.warn(
                "wrong user name or password from {client}", client=address, event=Event.LOGIN_FAILED
            )
            return None
        attempt.subtract()
        self._proven.add(username, network, self._fingerprint(username, password, network, hashed))
        return hashed

    async def _compare(self, password: str, hashed: bytes, *, is_known: bool) -> bool:
        if self._checking >= (MAX_CHECKS if is_known else MAX_CHECKS - RESERVED_CHECKS):
            raise TooManyRequests("too many logins at once", retry_after_seconds=1)
        self._checking += 1
        try:
            return await self._run_in_thread(
                partial(bcrypt.checkpw, password.encode("utf-8")[:_MAX_BYTES], hashed)
            )
        finally:
            self._checking -= 1

    def _fingerprint(self, username: str, password: str, network: str, hashed: bytes) -> bytes:
        """Return a keyed hash of the login; it changes when the password in the file does."""
        parts = (username.encode(), password.encode(), network.encode(), hashed)
        login = b"".join(b"%d:%b" % (len(part), part) for part in parts)
        return hashlib.blake2b(login, key=self._secret, digest_size=32).digest()


def _decoy(hashes: dict[str, bytes]) -> bytes:
    """Return a hash that matches no password, with the cost of most hashes in the file."""
    costs = Counter(hashed[4:6] for hashed in hashes.values()).most_common(1)
    cost = costs[0][0] if costs else b"10"
    return b"$2b$%b$%b" % (cost, _NO_HASH)


def _stamp(file: Path) -> _Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
