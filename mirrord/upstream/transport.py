"""The wire: one request to one upstream, its redirects followed.

Twisted's own redirect agents leave a paused connection behind for every redirect with a body
(twisted#6752), and go from https to http without a word; Docker Hub redirects every blob.
"""

from collections.abc import Callable
from typing import Any

import attrs
from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient
from twisted.internet import error as network
from twisted.internet.defer import CancelledError
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from mirrord.observe.metrics import Metrics
from mirrord.oci.errors import RegistryError, UpstreamRefused, UpstreamUnreachable
from mirrord.upstream.address_policy import AddressPolicy
from mirrord.upstream.body import BodyReader
from mirrord.upstream.deadline import Deadline, parse_retry_after
from mirrord.upstream.origin import WebOrigin, resolve

MAX_REDIRECTS = 5
ANSWER_SECONDS = 10.0
"""From a request to the headers of its last redirect's answer: connecting included."""

MAX_LENGTH = 2**63 - 1
"""No file can be larger; whoever says so is not believed, and found out by what then comes."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

HeadersFor = Callable[[WebOrigin], Headers]
"""What a request says, depending on to whom: credentials and validators are for one origin only."""


@attrs.frozen
class UpstreamResponse:
    """What came in the end, and from where. Read or discard its body, or a connection is lost."""

    response: IResponse
    url: str
    origin: WebOrigin
    was_redirected: bool

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.response.code)

    @property
    def length(self) -> int | None:
        """The bytes of the body, as the headers say; None where they do not."""
        if self.response.request.method == b"HEAD":
            text = self.header("Content-Length") or ""
            return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        if self.response.length is UNKNOWN_LENGTH:
            return None
        return min(int(self.response.length), MAX_LENGTH)

    @property
    def is_html(self) -> bool:
        """Whether no registry speaks here, but something before it: a portal, a maintenance page."""
        return (self.header("Content-Type") or "").lower().startswith("text/html")

    @property
    def retry_after_seconds(self) -> float | None:
        """What Retry-After asks for."""
        return parse_retry_after(self.header("Retry-After"), self.header("Date"))

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        values = self.headers(name)
        return values[0].strip() if values else None

    def headers(self, name: str) -> list[str]:
        """All headers of that name."""
        values = self.response.headers.getRawHeaders(name.encode("ascii"))
        return [value.decode("latin-1") for value in values or ()]


@attrs.frozen
class HTTPTransport:
    """Sends requests for one upstream. The reactor tells the time."""

    _upstream: str
    _client: HTTPClient
    _reactor: Any
    _peers: AddressPolicy
    _metrics: Metrics
    bodies: BodyReader

    async def ask(
        self,
        method: str,
        url: str,
        headers_for: HeadersFor,
        *,
        kind: str,
        deadline: Deadline,
        follow: bool = True,
    ) -> UpstreamResponse:
        """The answer to one GET or HEAD, after five redirects at most; each says `headers_for` its origin.

        Raises:
            UpstreamUnreachable: There is no connection, or it broke.
            UpstreamTimeout: No answer within ANSWER_SECONDS or by the deadline.
            UpstreamRefused: It led in circles, from https to http, or to where we must not go.
        """
        deadline = deadline.within(ANSWER_SECONDS)
        was_redirected = False
        for _ in range(MAX_REDIRECTS + 1):
            origin = WebOrigin.of(url)
            self._peers.check_host(origin.host)
            response = await self._exchange(method, url, headers_for(origin), kind, deadline)
            answer = UpstreamResponse(response, url, origin, was_redirected)
            location = answer.header("Location")
            if not follow or answer.status not in _REDIRECTS or location is None:
                return answer
            await self.bodies.discard(response, deadline)
            url = resolve(url, location)
            if origin.is_secure and not WebOrigin.of(url).is_secure:
                raise UpstreamRefused("the upstream redirected from https to http")
            was_redirected = True
        raise UpstreamRefused(f"the upstream redirected more than {MAX_REDIRECTS} times")

    def retried(self) -> None:
        """A request is made because the one before failed or broke off."""
        self._metrics.retried(self._upstream)

    async def _exchange(
        self, method: str, url: str, headers: Headers, kind: str, deadline: Deadline
    ) -> IResponse:
        """One request, one answer."""
        status: int | None = None
        try:
            asking: Any = self._client.request(
                method, url, headers=headers, allow_redirects=False, unbuffered=True, reactor=self._reactor
            )
            response: IResponse = await deadline.wait(asking, "an answer")
            status = int(response.code)
        except RegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - what a peer makes Twisted, OpenSSL or treq raise has no bounds
            if _was_cancelled(error):
                raise CancelledError from None
            raise UpstreamUnreachable(f"the upstream cannot be reached: {_describe(error)}") from None
        finally:
            self._metrics.upstream_responded(self._upstream, kind, status)
        return response


def _was_cancelled(error: BaseException) -> bool:
    """Whether a request ended because we gave it up; Twisted wraps that like any other cause."""
    if isinstance(error, CancelledError | network.ConnectingCancelledError):
        return True
    return any(_was_cancelled(reason.value) for reason in getattr(error, "reasons", None) or ())


def _describe(error: BaseException) -> str:
    """What went wrong, in words that hold nothing of the request."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _describe(reasons[0].value)
    match error:
        case network.DNSLookupError():
            return "its name does not resolve"
        case network.ConnectionRefusedError():
            return "it refuses connections"
        case VerificationError():
            return "its certificate is for another host"
        case SSL.Error():
            details = error.args[0] if error.args and isinstance(error.args[0], list) else ()
            return "TLS failed: " + (", ".join(str(part[-1]) for part in details) or "no reason given")
    return type(error).__name__
