"""Admission: what of access lives on while configurations come and go.

A reload makes a new gate. Who has tried how often, whose password was right a moment ago and what signs
tokens stay, so that a reload logs nobody out and forgives no guesser.
"""

from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.access.authenticator import Authenticator
from mirrord.access.keys import open_key
from mirrord.access.ports import Names, Threads
from mirrord.access.rules import Rules
from mirrord.access.tokens import TokenIssuer
from mirrord.access.users import Users
from mirrord.config.hosted import AccessConfig


@attrs.define(eq=False)
class AccessState:
    """Makes gates. `folder` is where the key of tokens is kept, made when the first of them is needed.

    `clock` gives seconds that only ever grow, `wall_clock` Unix seconds, `sleep` a Deferred that fires
    after so many.
    """

    _folder: Path
    _threads: Threads
    _clock: Callable[[], float]
    _wall_clock: Callable[[], float]
    _sleep: Callable[[float], Deferred[None]]
    _users: Users | None = attrs.field(default=None, init=False)
    _tokens: TokenIssuer | None = attrs.field(default=None, init=False)
    _past_failures: int = attrs.field(default=0, init=False)

    _log = Logger()

    def gate(self, access: AccessConfig | None, names: Names) -> Authenticator:
        """The gate of a configuration; the file of users is read again.

        Raises:
            OSError: The users cannot be read, or the key neither read nor written; nothing has changed.
        """
        if access is None:
            self._log.info(
                "there is no [access]: everybody may pull, and only clients on this host may push and delete"
            )
        rules = Rules.of(access)
        if access is None or access.htpasswd is None:
            self._replace_users(None)
            return Authenticator(rules, names)
        if self._tokens is None:
            self._tokens = TokenIssuer(open_key(self._folder), self._wall_clock)
        if self._users is None or self._users.file != access.htpasswd:
            self._replace_users(Users.load(access.htpasswd, self._threads, self._clock, self._sleep))
        else:
            self._users.reload()
        return Authenticator(rules, names, self._users, self._tokens, access.realm)

    @property
    def failures(self) -> int:
        """How often somebody gave a wrong user or password."""
        return self._past_failures + (0 if self._users is None else self._users.failures)

    @property
    def trouble(self) -> str | None:
        """What is wrong with the file of users, where there is one in use."""
        return None if self._users is None else self._users.trouble

    def _replace_users(self, users: Users | None) -> None:
        self._past_failures = self.failures
        self._users = users
