"""Access state that survives a configuration reload.

A reload makes a new Authenticator. The counts of failed logins, the passwords verified a moment ago and the
key that signs tokens are retained, so that a reload logs no user out and resets no throttle.
"""

from collections.abc import Callable
from pathlib import Path

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.access.authenticator import Authenticator, ResolveScope
from mirrord.access.rules import Rules
from mirrord.access.tokens import TokenIssuer, open_key
from mirrord.access.users import RunInThread, Users
from mirrord.config.config import Config


@attrs.define(eq=False, kw_only=True)
class AccessState:
    """Makes an Authenticator for each configuration; `folder` contains the key of tokens, once one is needed.

    `clock` returns monotonic seconds, `wall_clock` Unix seconds, `sleep` a Deferred that fires after so
    many seconds.
    """

    _folder: Path
    _run_in_thread: RunInThread
    _clock: Callable[[], float]
    _wall_clock: Callable[[], float]
    _sleep: Callable[[float], Deferred[None]]
    _users: Users | None = attrs.field(default=None, init=False)
    _tokens: TokenIssuer | None = attrs.field(default=None, init=False)
    _earlier_failures: int = attrs.field(default=0, init=False)

    _log = Logger()

    def authenticator(self, config: Config, resolve_scope: ResolveScope) -> Authenticator:
        """Return the authenticator of a configuration; reads the file of users again.

        Raises:
            OSError: The users cannot be read, or the key neither read nor written; nothing has changed.
        """
        access, rules = config.access, Rules.of(config)
        if access is None:
            writers = "clients on this host" if config.hosted.push_from_loopback else "none"
            self._log.info(
                "no [access] is configured: all clients may pull, {writers} may push and delete",
                writers=writers,
            )
        if access is None or access.htpasswd is None:
            self._replace_users(None)
            return Authenticator(rules=rules, resolve_scope=resolve_scope)
        if self._tokens is None:
            self._tokens = TokenIssuer(open_key(self._folder), self._wall_clock)
        if self._users is None or self._users.file != access.htpasswd:
            self._replace_users(
                Users.load(
                    access.htpasswd,
                    run_in_thread=self._run_in_thread,
                    clock=self._clock,
                    sleep=self._sleep,
                )
            )
        else:
            self._users.reload()
        return Authenticator(
            rules=rules,
            resolve_scope=resolve_scope,
            users=self._users,
            tokens=self._tokens,
            realm=access.realm,
        )

    @property
    def failed_logins(self) -> int:
        """The number of wrong user names and passwords since the start."""
        return self._earlier_failures + (0 if self._users is None else self._users.failed_logins)

    @property
    def problem(self) -> str | None:
        """The error of the file of users, where one is in use."""
        return None if self._users is None else self._users.problem

    def _replace_users(self, users: Users | None) -> None:
        self._earlier_failures = self.failed_logins
        self._users = users
