"""BlobFetchPolicy: from which upstream a blob is requested, how often, and for how long.

While clients wait for their headers, time is limited: they must get a response before they give up. After
that the limit is one of attempts, counted from the last bytes that arrived.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.flight.backoff import backoff_seconds
from mirrord.mirrored.ports import BlobBody, Upstream
from mirrord.mirrored.timeouts import REQUEST_SECONDS, sleep
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    CircuitOpen,
    RegistryError,
    Unavailable,
    UpstreamBusy,
    UpstreamError,
    UpstreamUnreachable,
)
from mirrord.oci.names import RepositoryKey

T = TypeVar("T")

MAX_REPOSITORIES = 256
"""The most repositories through which one download may be requested."""

_MAX_ATTEMPTS = 5
_FIRST_ATTEMPT_SECONDS = 8.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_PROBE_SECONDS = 2.0
"""A client waits this long for an open circuit: another request's probe may close it any moment."""


@attrs.define(eq=False, kw_only=True)
class BlobFetchPolicy:
    """The requests of one download.

    `repositories` are those through which the blob may be requested, the next one first. `answered` are those
    whose upstream has answered for the blob, so that their clients may read it. `refusals` are the definite
    errors of those whose upstream refused: their clients get that error, even if others get the blob.
    """

    digest: Digest
    repositories: list[RepositoryKey]
    answered: set[RepositoryKey] = attrs.field(factory=set)
    _upstreams: Mapping[str, Upstream]
    _clock: IReactorTime
    _random: Callable[[], float]
    refusals: dict[RepositoryKey, RegistryError] = attrs.field(factory=dict, init=False)
    is_stopped: bool = attrs.field(default=False, init=False)
    has_begun: bool = attrs.field(default=False, init=False)
    _attempts: int = attrs.field(default=0, init=False)
    _has_failed: bool = attrs.field(default=False, init=False)
    _accepts_ranges: bool = attrs.field(default=True, init=False)
    _validator: str | None = attrs.field(default=None, init=False)
    _waiting: Deferred[Any] | None = attrs.field(default=None, init=False)
    _started_at: float = attrs.field(init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._started_at = self._clock.seconds()

    def start(self) -> None:
        """Record that the download starts: it may have waited for its slot."""
        self._started_at = self._clock.seconds()

    @property
    def seconds(self) -> float:
        """The seconds since the download started."""
        return self._clock.seconds() - self._started_at

    def add(self, key: RepositoryKey) -> None:
        """Add a repository whose upstream has answered for the blob.

        Raises:
            Unavailable: There are too many.
        """
        if key not in self.repositories and len(self.repositories) + len(self.refusals) >= MAX_REPOSITORIES:
            raise Unavailable("this blob is being downloaded for too many repositories")
        self.refusals.pop(key, None)
        self.answered.add(key)
        if key not in self.repositories:
            self.repositories.append(key)

    def begin(self) -> None:
        """Record that headers were sent or bytes have arrived: no client waits for headers any more."""
        self.has_begun = True

    def stop(self) -> None:
        """Send no more requests; what is waited for fails."""
        self.is_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def wait(self, waiting: Deferred[T]) -> T:
        """Return the result of `waiting`, which is cancelled when the policy is stopped.

        Raises:
            UpstreamUnreachable: The policy was stopped.
        """
        self._waiting = waiting
        try:
            return await waiting
        except CancelledError:
            raise UpstreamUnreachable("the mirror is stopping") from None
        finally:
            self._waiting = None

    async def request(self, offset: int) -> BlobBody:
        """Return the bytes from `offset`, from the first repository that has them.

        A repository whose upstream refused is not tried again while there are others.

        Raises:
            UpstreamError: A transient failure; the next request goes to the next repository.
            RegistryError: The upstream of the last repository refused.
        """
        if self._has_failed:
            self.repositories.append(self.repositories.pop(0))
            self._has_failed = False
        while True:
            key = self.repositories[0]
            try:
                body = await self.wait(self._fetch(key, offset))
            except UpstreamError as error:
                if error.upstream_status == 416:
                    self._accepts_ranges = False
                self._has_failed = True
                raise
            except RegistryError as error:
                self.refusals[key] = error
                if len(self.repositories) == 1:
                    raise
                self.repositories.remove(key)
            else:
                self._validator = body.validator
                self.answered.add(key)
                return body

    async def back_off(self, error: UpstreamError, *, has_progressed: bool) -> None:
        """Wait before the next request, or raise `error` if another one is pointless."""
        self._attempts = 1 if has_progressed else self._attempts + 1
        seconds = backoff_seconds(
            self._attempts, first=_FIRST_PAUSE_SECONDS, longest=_LONGEST_PAUSE_SECONDS, random=self._random
        )
        retry_after = error.retry_after_seconds or 0.0
        if self.has_begun:
            seconds = max(seconds, retry_after)
            is_hopeless = retry_after > _LONGEST_RETRY_AFTER_SECONDS
        else:
            is_rejected = isinstance(error, CircuitOpen | UpstreamBusy) and retry_after > _PROBE_SECONDS
            is_hopeless = is_rejected or seconds > self._seconds_left
        if is_hopeless or self.is_stopped or self._attempts >= _MAX_ATTEMPTS:
            raise error
        self._log.info(
            "download of {digest} interrupted ({reason}); retrying in {seconds:.1f} s",
            upstream=self.repositories[0].upstream,
            repository=str(self.repositories[0].repository),
            digest=str(self.digest),
            reason=error.message,
            seconds=seconds,
        )
        await self.wait(sleep(self._clock, seconds))

    def _fetch(self, key: RepositoryKey, offset: int) -> Deferred[BlobBody]:
        is_first = not self._attempts and not self.has_begun
        request = self._upstreams[key.upstream].fetch_blob(
            key.repository,
            self.digest,
            offset=offset if self._accepts_ranges else 0,
            validator=self._validator,
            budget_seconds=_FIRST_ATTEMPT_SECONDS if is_first else max(1.0, self._seconds_left),
        )
        return Deferred.fromCoroutine(request)

    @property
    def _seconds_left(self) -> float:
        """The seconds until clients must get their headers; once they have them, those of one request."""
        return REQUEST_SECONDS if self.has_begun else REQUEST_SECONDS - self.seconds
