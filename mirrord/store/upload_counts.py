"""UploadCounts: how many upload sessions there are, of each client and in each repository.

A session costs its client one small request, and us a file that stays for days. So there is a limit for each
client, one for each repository, which several clients can push to, and one for all. The first two are the
client's own doing: 429 (distribution-spec, TOOMANYREQUESTS). The third is not: 503.

A session that is abandoned counts until it expires, which a client whose pushes fail for a night would feel
for a week. So where more than half of a limit is used, sessions expire after an hour.

The name of a session is `TOKEN-REPOSITORY-CLIENT`, the last two as marks. So the counts are right after a
restart too.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

import attrs

from mirrord.oci.errors import TooManyRequests, Unavailable
from mirrord.oci.names import RepositoryName

CROWDED_SECONDS = 3600.0
"""The time after which idle sessions expire where more than half of a limit is used."""

_RETRY_SECONDS = 60.0
_SESSION = re.compile(r"[0-9a-f]{32}-([0-9a-f]{16})(?:-([0-9a-f]{16}))?", re.ASCII)
"""Names of earlier versions have no mark of the client."""


@attrs.frozen(kw_only=True)
class UploadLimits:
    """The most sessions in all, in one repository and of one client; docker pushes five layers at once."""

    in_all: int = 16_384
    in_repository: int = 4096
    of_client: int = 2048


@attrs.frozen
class SessionName:
    """The name of a session, which is valid in one repository only."""

    _text: str
    repository_mark: str
    client_mark: str

    @classmethod
    def of(cls, token: str, repository: RepositoryName, client: str) -> "SessionName":
        """Return the name of a new session; `token` is 32 unguessable hexadecimal digits."""
        marks = _mark(str(repository)), _mark(client)
        return cls("-".join((token, *marks)), *marks)

    @classmethod
    def parse(cls, text: str) -> "SessionName | None":
        """Parse a name; None if it is invalid."""
        match = _SESSION.fullmatch(text)
        return None if match is None else cls(text, match[1], match[2] or "")

    def is_in(self, repository: RepositoryName) -> bool:
        """Return whether the session is of this repository."""
        return self.repository_mark == _mark(str(repository))

    def __str__(self) -> str:
        return self._text


@attrs.define(eq=False)
class UploadCounts:
    """The counts, by the names of sessions."""

    limits: UploadLimits = attrs.field(factory=UploadLimits)
    _of_repositories: Counter[str] = attrs.field(factory=Counter, init=False)
    _of_clients: Counter[str] = attrs.field(factory=Counter, init=False)

    @classmethod
    def of(cls, sessions: Iterable[str]) -> "UploadCounts":
        """Count the sessions of an earlier run."""
        counts = cls()
        for session in sessions:
            counts.add(session)
        return counts

    def check(self, name: SessionName) -> None:
        """Check that there may be one more session.

        Raises:
            TooManyRequests: There are too many of its client or in its repository.
            Unavailable: There are too many in all.
        """
        limits = self.limits
        if self._of_clients[name.client_mark] >= limits.of_client:
            raise _too_many(
                f"this client has {limits.of_client} unfinished uploads, the most that are allowed"
            )
        if self._of_repositories[name.repository_mark] >= limits.in_repository:
            raise _too_many(
                f"this repository has {limits.in_repository} unfinished uploads, the most that are allowed"
            )
        if self._of_repositories.total() >= limits.in_all:
            raise Unavailable(
                f"there are {limits.in_all} unfinished uploads, the most that are allowed",
                retry_after_seconds=_RETRY_SECONDS,
            )

    def add(self, session: str) -> None:
        """Count a session."""
        self._change(session, 1)

    def remove(self, session: str) -> None:
        """Stop counting a session."""
        self._change(session, -1)

    def is_crowded(self, session: str) -> bool:
        """Return whether a limit that applies to a session is more than half used."""
        name, limits = SessionName.parse(session), self.limits
        return name is not None and (
            2 * self._of_clients[name.client_mark] > limits.of_client
            or 2 * self._of_repositories[name.repository_mark] > limits.in_repository
            or 2 * self._of_repositories.total() > limits.in_all
        )

    def _change(self, session: str, change: int) -> None:
        name = SessionName.parse(session)
        if name is None:
            return
        for counts, mark in (
            (self._of_clients, name.client_mark),
            (self._of_repositories, name.repository_mark),
        ):
            counts[mark] += change
            if not counts[mark]:
                del counts[mark]


def _too_many(message: str) -> TooManyRequests:
    return TooManyRequests(f"{message}: finish or cancel some", retry_after_seconds=_RETRY_SECONDS)


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
