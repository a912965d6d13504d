"""Exchange: what a client asked for and what became of it, as metrics and logs tell of it.

One line a pull is what an operator reads by day, and a pull is the GET of a manifest: that is what
upstreams count, and what a person has asked for. Blobs, HEADs and lists are told at debug. Why an
upstream fails is said once, by the upstream (upstream/api.py), and not again for everybody who waits.

What is in memory is answered in 90 microseconds, and a line about it takes 70 more (measured). So what
is not told is not put into words either.
"""

from collections.abc import Callable
from typing import Self

import attrs
from twisted.logger import Logger, LogLevel

from mirrord.api.resource import RepositoryResponse
from mirrord.http.request import MirrorRequest
from mirrord.observe.events import Event
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.names import RepositoryKey
from mirrord.oci.routes import BlobRoute, ManifestRoute, ReferrersRoute, Target

_LEFT = "left"
_ERROR = "error"


@attrs.define(eq=False)
class RequestLog:
    """A request for what a repository has, until it has ended; `is_debugging` is asked what is told."""

    _request: MirrorRequest
    _target: Target
    _source: RepositoryKey
    _kind: str
    _metrics: Metrics
    _is_debugging: Callable[[], bool]
    _outcome: str = attrs.field(default=_LEFT, init=False)
    _digest: str | None = attrs.field(default=None, init=False)
    _reason: str | None = attrs.field(default=None, init=False)
    _log = Logger()

    @classmethod
    def begin(
        cls,
        request: MirrorRequest,
        target: Target,
        source: RepositoryKey,
        *,
        kind: str,
        metrics: Metrics,
        is_debugging: Callable[[], bool],
    ) -> Self:
        """Follow a request to its end; `kind` is one of observe.metrics.KINDS."""
        exchange = cls(request, target, source, kind, metrics, is_debugging)
        request.ended = exchange._ended
        return exchange

    def answered(self, reply: RepositoryResponse) -> None:
        """This is what is going to be sent."""
        self._outcome = reply.outcome.way.value
        told = dict(reply.headers).get(b"Docker-Content-Digest")
        self._digest = None if told is None else told.decode("ascii")
        self._metrics.responded(self._source.upstream, self._kind, self._outcome)

    def failed(self, error: Exception) -> None:
        """There is nothing but an error to be sent."""
        self._outcome = _ERROR
        self._reason = error.message if isinstance(error, RegistryError) else "the mirror failed"
        self._metrics.responded(self._source.upstream, self._kind, _ERROR)

    def _ended(self, seconds: float) -> None:
        """All that is sent has been sent."""
        request = self._request
        if self._outcome != _LEFT:
            self._metrics.response_ended(self._source.upstream, self._kind, self._outcome, request.sentLength)
        is_pull = self._kind == "manifest" and not request.is_head
        if is_pull and not request.is_cut:
            self._metrics.pulled(self._outcome)
        if is_pull or self._is_debugging():
            self._tell(seconds, is_pull=is_pull)

    def _tell(self, seconds: float, *, is_pull: bool) -> None:
        request = self._request
        reference, name = self._names()
        asked = f"{self._what(is_pull=is_pull)} {name} for {request.client_address}"
        self._log.emit(
            LogLevel.info if is_pull else LogLevel.debug,
            "{line}",
            line=f"{asked}: {self._how()}, {request.sentLength} bytes in {seconds:.3f} s",
            event=Event.PULLED if is_pull else Event.ANSWERED,
            upstream=self._source.upstream,
            repository=str(self._source.repository),
            reference=reference,
            digest=self._digest,
            outcome=self._outcome,
            client=request.client_address,
            status=None if self._outcome == _LEFT else request.code,
            bytes=request.sentLength,
            seconds=seconds,
        )

    def _what(self, *, is_pull: bool) -> str:
        if is_pull:
            return "not pulled" if self._outcome in {_LEFT, _ERROR} else "pulled"
        return f"{self._request.method.decode('ascii')} {self._kind}"

    def _how(self) -> str:
        if self._outcome == _ERROR:
            return f"{self._request.code}, {self._reason}"
        if self._request.is_cut and self._outcome != _LEFT:
            return f"{self._outcome}, broken off"
        return self._outcome

    def _names(self) -> tuple[str | None, str]:
        """The reference, if one was asked for, and the whole name of what was."""
        match self._target.route:
            case ManifestRoute(reference=Digest() as digest):
                return str(digest), f"{self._source}@{digest}"
            case ManifestRoute(reference=tag):
                return str(tag), f"{self._source}:{tag}"
            case BlobRoute(digest=digest) | ReferrersRoute(digest=digest):
                return None, f"{self._source}@{digest}"
        return None, str(self._source)
