"""Asking: of whom a blob's bytes are wanted, how often, and how long that is tried.

As long as clients wait for their headers, patience is short: they must be told before they give up.
From then on it is long, and counted anew whenever a byte has come.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mirrord.flight.backoff import backoff_seconds
from mirrord.mirrored.ports import BlobBody, Upstream
from mirrord.mirrored.timeouts import ASK_SECONDS, pause
from mirrord.oci.digest import Digest
from mirrord.oci.errors import CircuitOpen, RegistryError, UpstreamBusy, UpstreamError, UpstreamUnreachable
from mirrord.oci.names import RepositoryKey

T = TypeVar("T")

_MAX_TRIES = 5
_FIRST_TRY_SECONDS = 8.0
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 8.0
_LONGEST_RETRY_AFTER_SECONDS = 60.0
_PROBE_SECONDS = 2.0
"""Whoever is turned away for no longer than this waits: another's probe may close the circuit any moment."""


@attrs.define(eq=False)
class BlobFetchPolicy:
    """The questions of one download.

    `sources` are those through which it may be asked, the next one first. `refused` are those to
    whom the upstream said no: they get that answer, whatever the others get.
    """

    digest: Digest
    sources: list[RepositoryKey]
    _upstreams: Mapping[str, Upstream]
    _clock: IReactorTime
    _random: Callable[[], float]
    refused: dict[RepositoryKey, RegistryError] = attrs.field(factory=dict, init=False)
    has_stopped: bool = attrs.field(default=False, init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    _tries: int = attrs.field(default=0, init=False)
    _has_failed: bool = attrs.field(default=False, init=False)
    _takes_ranges: bool = attrs.field(default=True, init=False)
    _validator: str | None = attrs.field(default=None, init=False)
    _waiting: Deferred[BlobBody] | Deferred[None] | None = attrs.field(default=None, init=False)
    _began: float = attrs.field(init=False)
    _log = Logger()

    def __attrs_post_init__(self) -> None:
        self._began = self._clock.seconds()

    @property
    def has_begun(self) -> bool:
        """Whether headers are out or bytes have come."""
        return self._has_begun

    @property
    def seconds(self) -> float:
        """For how long bytes have been asked for."""
        return self._clock.seconds() - self._began

    def admit(self, source: RepositoryKey) -> None:
        """`source` may have the blob, and may be asked for it."""
        self.refused.pop(source, None)
        if source not in self.sources:
            self.sources.append(source)

    def begun(self) -> None:
        """Headers are out or bytes have come: from now on there is time."""
        self._has_begun = True

    def stop(self) -> None:
        """Ask no more; what is being waited for fails."""
        self.has_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def ask(self, offset: int) -> BlobBody:
        """The bytes from `offset`, from the first source that has them.

        A source that is told no is not asked again while there are others.

        Raises:
            UpstreamError: None gave them, and that may pass; the next question goes to the next source.
            RegistryError: The last source was told no.
        """
        if self._has_failed:
            self.sources.append(self.sources.pop(0))
            self._has_failed = False
        while True:
            source = self.sources[0]
            try:
                body = await self._wait(self._fetch(source, offset))
            except UpstreamError as error:
                if error.upstream_status == 416:
                    self._takes_ranges = False
                self._has_failed = True
                raise
            except RegistryError as error:
                self.refused[source] = error
                if len(self.sources) == 1:
                    raise
                self.sources.remove(source)
            else:
                self._validator = body.validator
                return body

    async def pause_or_raise(self, error: UpstreamError, *, has_progressed: bool) -> None:
        """Wait a while before the next question, or raise `error` where that is no use."""
        self._tries = 1 if has_progressed else self._tries + 1
        seconds = backoff_seconds(
            self._tries, first=_FIRST_PAUSE_SECONDS, longest=_LONGEST_PAUSE_SECONDS, random=self._random
        )
        wanted = error.retry_after_seconds or 0.0
        if self._has_begun:
            seconds = max(seconds, wanted)
            is_hopeless = wanted > _LONGEST_RETRY_AFTER_SECONDS
        else:
            is_turned_away = isinstance(error, CircuitOpen | UpstreamBusy) and wanted > _PROBE_SECONDS
            is_hopeless = is_turned_away or seconds > self._seconds_left
        if is_hopeless or self.has_stopped or self._tries >= _MAX_TRIES:
            raise error
        self._log.info(
            "{digest} stopped ({reason}); asking again in {seconds:.1f} s",
            upstream=self.sources[0].upstream,
            repository=str(self.sources[0].repository),
            digest=str(self.digest),
            reason=error.message,
            seconds=seconds,
        )
        await self._wait(pause(self._clock, seconds))

    def _fetch(self, source: RepositoryKey, offset: int) -> Deferred[BlobBody]:
        is_first = not self._tries and not self._has_begun
        asking = self._upstreams[source.upstream].fetch_blob(
            source.repository,
            self.digest,
            offset=offset if self._takes_ranges else 0,
            validator=self._validator,
            budget_seconds=_FIRST_TRY_SECONDS if is_first else max(1.0, self._seconds_left),
        )
        return Deferred.fromCoroutine(asking)

    async def _wait(self, waiting: Deferred[T]) -> T:
        """The result of `waiting`, unless we are stopped first."""
        self._waiting = waiting  # type: ignore[assignment]  # only to be cancelled
        try:
            return await waiting
        except CancelledError:
            raise UpstreamUnreachable("the mirror is stopping") from None
        finally:
            self._waiting = None

    @property
    def _seconds_left(self) -> float:
        """Until clients that wait for headers have to be told that none came; later, for one question."""
        if self._has_begun:
            return ASK_SECONDS
        return ASK_SECONDS - self.seconds
