"""Users: whose passwords are right, by a file that may change at any time.

bcrypt is slow on purpose, a tenth of a second and more on a Raspberry Pi. So it runs in a thread (it
lets go of the GIL), few at a time; whoever is right is remembered for five minutes, by a keyed hash and
not by the password; and a client that sends the same again while it is being checked waits for that.
Whether there is such a user takes the same time as whether the password is theirs.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

import attrs
import bcrypt
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.access.login_throttle import LoginThrottle
from mirrord.access.ports import Threads
from mirrord.access.recent import Recent
from mirrord.config.htpasswd import read_users
from mirrord.flight.single import SingleFlight
from mirrord.observe.events import Event
from mirrord.oci.errors import TooManyRequests

LOOK_SECONDS = 1.0
BELIEVED_SECONDS = 300.0
MAX_CHECKING = 16
"""Passwords that are being checked or wait for it: two seconds of work on a Raspberry Pi."""

_MAX_BYTES = 72
"""bcrypt looks at no more, and `htpasswd` has cut there too; the library wants it said."""

_REMEMBERED = 1024
_NO_HASH = b"." * 53

_Stamp = tuple[int, ...] | None


@attrs.define(eq=False)
class Users:
    """The users of an htpasswd file; `failures` are the passwords that were wrong, or of nobody.

    `clock` gives seconds that only ever grow, `sleep` a Deferred that fires after so many.
    """

    file: Path
    _threads: Threads
    _clock: Callable[[], float]
    _sleep: Callable[[float], Deferred[None]]
    _attempts: LoginThrottle
    _hashes: dict[str, bytes] = attrs.field(repr=False)
    _stamp: _Stamp
    trouble: str | None = attrs.field(default=None, init=False)
    failures: int = attrs.field(default=0, init=False)
    _decoy: bytes = attrs.field(default=b"", init=False, repr=False)
    _looked_at: float = attrs.field(default=0.0, init=False)
    _secret: bytes = attrs.field(factory=lambda: os.urandom(32), init=False, repr=False)
    _believed: Recent[bytes, bool] = attrs.field(init=False, repr=False)
    _checks: SingleFlight[bytes, bool] = attrs.field(factory=SingleFlight, init=False)
    _checking: int = attrs.field(default=0, init=False)

    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._believed = Recent(self._clock, BELIEVED_SECONDS, _REMEMBERED)
        self._looked_at = self._clock()
        self._decoy = _decoy(self._hashes)

    @classmethod
    def load(
        cls,
        file: Path,
        threads: Threads,
        clock: Callable[[], float],
        sleep: Callable[[float], Deferred[None]],
    ) -> Self:
        """The users of this file.

        Raises:
            OSError: It cannot be read; the message names it.
        """
        stamp = _stamp(file)
        try:
            hashes = read_users(file)
        except ValueError as error:
            raise OSError(f"{file}: {error}") from None
        return cls(file, threads, clock, sleep, LoginThrottle(clock), hashes, stamp)

    def has(self, username: str) -> bool:
        """Whether there is such a user now."""
        self._look()
        return username in self._hashes

    async def check(self, username: str, password: str, address: str) -> bool:
        """Whether this is the password of this user, tried by a client of this address.

        After some wrong ones it takes a few seconds to say.

        Raises:
            TooManyRequests: Others wait already, or too many are being checked; it was not looked at.
        """
        self._look()
        trial = self._fingerprint(username, password, address)
        if self._believed.recall(trial) and not self._attempts.is_pressing(address):
            return True
        return await self._checks.run(trial, lambda: self._check(trial, username, password, address))

    def reload(self) -> None:
        """Read the file again; one that cannot be used changes nothing, and is told once."""
        self._stamp = _stamp(self.file)
        try:
            self._hashes = read_users(self.file)
        except (OSError, ValueError) as error:
            trouble = f"{self.file}: {getattr(error, 'strerror', None) or error}"
            if trouble != self.trouble:
                self._log.warn("the users stay as they were: {trouble}", trouble=trouble)
            self.trouble = trouble
        else:
            self.trouble = None
            self._decoy = _decoy(self._hashes)

    def _look(self) -> None:
        """Read the file again if it has changed; looked at once a second at most."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        if _stamp(self.file) != self._stamp:
            self.reload()

    async def _check(self, trial: bytes, username: str, password: str, address: str) -> bool:
        wait = self._attempts.begin(username, address)
        if wait:
            await self._sleep(wait)
        known = self._hashes.get(username)
        is_match = await self._compare(password, known or self._decoy)
        if not is_match or known is None:
            self.failures += 1
            self._log.warn("wrong user or password from {client}", client=address, event=Event.LOGIN_FAILED)
            return False
        self._attempts.succeeded(username, address)
        self._believed.note(trial, True)
        return True

    async def _compare(self, password: str, hashed: bytes) -> bool:
        if self._checking >= MAX_CHECKING:
            raise TooManyRequests("too many passwords are being checked", retry_after_seconds=1)
        self._checking += 1
        try:
            return await self._threads.run(bcrypt.checkpw, password.encode("utf-8")[:_MAX_BYTES], hashed)
        finally:
            self._checking -= 1

    def _fingerprint(self, username: str, password: str, address: str) -> bytes:
        """What stands for a trial in memory; another hash in the file makes it another trial."""
        parts = (username, password, address, self._hashes.get(username, b"").decode("ascii"))
        said = b"".join(b"%d:%b" % (len(part), part.encode("utf-8")) for part in parts)
        return hashlib.blake2b(said, key=self._secret, digest_size=32).digest()


def _decoy(hashes: dict[str, bytes]) -> bytes:
    """A hash that no password has, and that takes as long to check as most of the file's."""
    usual = Counter(hashed[4:6] for hashed in hashes.values()).most_common(1)
    cost = usual[0][0] if usual else b"10"
    return b"$2b$%b$%b" % (cost, _NO_HASH)


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)
