"""RequestLog: a request for content and its response, in metrics and logs.

An operator reads one line per pull, and a pull is the GET of a manifest: that is what upstreams count, and
what a user has requested. Blobs, HEADs and lists are logged at debug level. Why an upstream fails is logged
once, by the upstream (upstream/api.py), and not again for every client that waits.

A response from memory takes 90 microseconds, and a line about it 70 more (measured). So a line that is not
logged is not formatted either.
"""

from collections.abc import Callable
from typing import Self

import attrs
from twisted.logger import Logger, LogLevel

from mirrord.http.request import MirrorRequest
from mirrord.http.response import Response
from mirrord.observe.events import Event
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.names import RepositoryKey
from mirrord.oci.routes import BlobRoute, ManifestRoute, ReferrersRoute, TagsRoute

_DISCONNECTED = "left"
_ERROR = "error"

ReadRoute = ManifestRoute | BlobRoute | TagsRoute | ReferrersRoute
"""The routes whose requests are counted and logged."""


@attrs.define(eq=False, kw_only=True)
class RequestLog:
    """One request and its outcome; `is_debugging` returns whether debug lines are logged."""

    _request: MirrorRequest
    _route: ReadRoute
    _key: RepositoryKey
    _metrics: Metrics
    _is_debugging: Callable[[], bool]
    _kind: str = attrs.field(init=False)
    _outcome: str = attrs.field(default=_DISCONNECTED, init=False)
    _digest: str | None = attrs.field(default=None, init=False)
    _reason: str | None = attrs.field(default=None, init=False)
    _log = Logger()

    @classmethod
    def begin(
        cls,
        request: MirrorRequest,
        route: ReadRoute,
        key: RepositoryKey,
        *,
        metrics: Metrics,
        is_debugging: Callable[[], bool],
    ) -> Self:
        """Start to follow a request; it is counted and logged when it has ended."""
        log = cls(request=request, route=route, key=key, metrics=metrics, is_debugging=is_debugging)
        request.ended = log._ended
        return log

    def __attrs_post_init__(self) -> None:
        self._kind = _kind_of(self._route)

    def responded(self, response: Response) -> None:
        """Count a response that is about to be sent."""
        if response.cache is not None:
            self._outcome = response.cache.status.value
        digest = dict(response.headers).get(b"Docker-Content-Digest")
        self._digest = None if digest is None else digest.decode("ascii")
        self._metrics.responded(self._key.upstream, self._kind, self._outcome)

    def failed(self, error: Exception) -> None:
        """Count a request that gets an error."""
        self._outcome = _ERROR
        self._reason = error.message if isinstance(error, RegistryError) else "the mirror failed"
        self._metrics.responded(self._key.upstream, self._kind, _ERROR)

    def _ended(self, seconds: float) -> None:
        """Count and log a request whose response is complete or aborted."""
        request = self._request
        if self._outcome != _DISCONNECTED:
            self._metrics.response_ended(self._key.upstream, self._kind, self._outcome, request.sentLength)
        is_pull = self._kind == "manifest" and not request.is_head
        if is_pull and not request.is_aborted:
            self._metrics.pulled(self._outcome)
        if is_pull or self._is_debugging():
            self._report(seconds, is_pull=is_pull)

    def _report(self, seconds: float, *, is_pull: bool) -> None:
        request = self._request
        reference, name = self._names()
        subject = f"{self._verb(is_pull=is_pull)} {name} for {request.client_address}"
        self._log.emit(
            LogLevel.info if is_pull else LogLevel.debug,
            "{line}",
            line=f"{subject}: {self._result()}, {request.sentLength} bytes in {seconds:.3f} s",
            event=Event.PULLED if is_pull else Event.ANSWERED,
            upstream=self._key.upstream,
            repository=str(self._key.repository),
            reference=reference,
            digest=self._digest,
            outcome=self._outcome,
            client=request.client_address,
            status=None if self._outcome == _DISCONNECTED else request.code,
            bytes=request.sentLength,
            seconds=seconds,
        )

    def _verb(self, *, is_pull: bool) -> str:
        if is_pull:
            return "not pulled" if self._outcome in {_DISCONNECTED, _ERROR} else "pulled"
        return f"{self._request.method.decode('ascii')} {self._kind}"

    def _result(self) -> str:
        if self._outcome == _ERROR:
            return f"{self._request.code}, {self._reason}"
        if self._request.is_aborted and self._outcome != _DISCONNECTED:
            return f"{self._outcome}, aborted"
        return self._outcome

    def _names(self) -> tuple[str | None, str]:
        """Return the reference of the request, if it has one, and the whole name of what it requests."""
        match self._route:
            case ManifestRoute(reference=Digest() as digest):
                return str(digest), f"{self._key}@{digest}"
            case ManifestRoute(reference=tag):
                return str(tag), f"{self._key}:{tag}"
            case BlobRoute(digest=digest) | ReferrersRoute(digest=digest):
                return None, f"{self._key}@{digest}"
        return None, str(self._key)


def _kind_of(route: ReadRoute) -> str:
    """Return the label of a route, one of observe.metrics.KINDS."""
    match route:
        case ManifestRoute():
            return "manifest"
        case BlobRoute():
            return "blob"
        case TagsRoute():
            return "tags"
        case ReferrersRoute():
            return "referrers"
