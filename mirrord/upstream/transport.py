"""HTTPTransport: send one request to one upstream and follow its redirects.

Twisted's own redirect agents leave a paused connection behind for every redirect with a body
(twisted#6752) and follow from https to http without a warning; Docker Hub redirects every blob.
"""

from collections.abc import Callable
from typing import Any, Self

import attrs
from hyperlink import EncodedURL
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
from mirrord.upstream.origin import WebOrigin, resolve
from mirrord.upstream.retry import Deadline, parse_retry_after

MAX_REDIRECTS = 5
RESPONSE_SECONDS = 10.0
"""The timeout from a request to the headers of the response after its last redirect, connecting included."""

MAX_LENGTH = 2**63 - 1
"""No file can be larger; a larger Content-Length is cut to this, and the body then found to be too short."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})

HeadersFor = Callable[[WebOrigin], Headers]
"""Returns the headers of a request to an origin: credentials and validators are for one origin only."""


@attrs.frozen(kw_only=True)
class UpstreamResponse:
    """The response after all redirects. Read or discard its body, or a connection leaks."""

    raw: IResponse
    url: str
    origin: WebOrigin
    was_redirected: bool

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.raw.code)

    @property
    def length(self) -> int | None:
        """The length of the body according to the headers; None if they have none."""
        if self.raw.request.method == b"HEAD":
            text = self.header("Content-Length") or ""
            return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
        if self.raw.length is UNKNOWN_LENGTH:
            return None
        return min(int(self.raw.length), MAX_LENGTH)

    @property
    def is_html(self) -> bool:
        """Whether it is not from a registry but from something in front: a portal, a maintenance page."""
        return (self.header("Content-Type") or "").lower().startswith("text/html")

    @property
    def retry_after_seconds(self) -> float | None:
        """The wait that Retry-After requests."""
        return parse_retry_after(self.header("Retry-After"), self.header("Date"))

    def header(self, name: str) -> str | None:
        """Return the first header of that name."""
        values = self.headers(name)
        return values[0].strip() if values else None

    def headers(self, name: str) -> list[str]:
        """Return all headers of that name."""
        values = self.raw.headers.getRawHeaders(name.encode("ascii"))
        return [value.decode("latin-1") for value in values or ()]


@attrs.frozen(kw_only=True)
class HTTPTransport:
    """Sends the requests to one upstream. The reactor is also the clock."""

    _upstream: str
    _client: HTTPClient
    _reactor: Any
    _addresses: AddressPolicy
    _metrics: Metrics
    bodies: BodyReader

    async def send(
        self,
        method: str,
        url: str,
        headers_for: HeadersFor,
        *,
        kind: str,
        deadline: Deadline,
        follow: bool = True,
    ) -> UpstreamResponse:
        """Send a GET or HEAD and follow at most five redirects, each with `headers_for` its origin.

        Raises:
            UpstreamUnreachable: No connection could be made, or it was lost.
            UpstreamTimeout: There was no response within RESPONSE_SECONDS or by the deadline.
            UpstreamRefused: It redirected too often, from https to http, or to a forbidden address.
        """
        deadline = deadline.within(RESPONSE_SECONDS)
        was_redirected = False
        for _ in range(MAX_REDIRECTS + 1):
            origin = WebOrigin.of(url)
            self._addresses.check_origin(origin)
            raw = await self._send_once(method, url, headers_for(origin), kind, deadline)
            response = UpstreamResponse(raw=raw, url=url, origin=origin, was_redirected=was_redirected)
            location = response.header("Location")
            if not follow or response.status not in _REDIRECTS or location is None:
                return response
            await self.discard(response, deadline)
            url = resolve(url, location)
            if origin.is_secure and not WebOrigin.of(url).is_secure:
                raise UpstreamRefused("the upstream redirected from https to http")
            was_redirected = True
        raise UpstreamRefused(f"the upstream redirected more than {MAX_REDIRECTS} times")

    async def discard(self, response: UpstreamResponse, deadline: Deadline) -> None:
        """Discard a response whose body is not needed."""
        await self.bodies.discard(response.raw, deadline)

    def retried(self) -> None:
        """Count a request that is sent because the previous one failed or was interrupted."""
        self._metrics.retried(self._upstream)

    async def _send_once(
        self, method: str, url: str, headers: Headers, kind: str, deadline: Deadline
    ) -> IResponse:
        status: int | None = None
        try:
            requesting: Any = self._client.request(
                method,
                RequestedURL.from_text(url),
                headers=headers,
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            response: IResponse = await deadline.wait(requesting, "a response")
            status = int(response.code)
        except RegistryError:
            raise
        except Exception as error:  # noqa: BLE001 - a peer can make Twisted, OpenSSL or treq raise anything
            if _was_cancelled(error):
                raise CancelledError from None
            raise UpstreamUnreachable(f"the upstream cannot be reached: {_describe(error)}") from None
        finally:
            self._metrics.upstream_responded(self._upstream, kind, status)
        return response


class RequestedURL(EncodedURL):
    """A URL of ASCII characters, which treq requests as it is.

    Of any other it encodes the host as an international name, which an IPv6 address and names with an
    underscore are not.
    """

    def to_uri(self) -> Self:
        """Return this URL."""
        return self


def _was_cancelled(error: BaseException) -> bool:
    """Return whether we cancelled the request; Twisted wraps that like any other cause."""
    if isinstance(error, CancelledError | network.ConnectingCancelledError):
        return True
    return any(_was_cancelled(reason.value) for reason in getattr(error, "reasons", None) or ())


def _describe(error: BaseException) -> str:
    """Describe a failure without any part of the request."""
    reasons = getattr(error, "reasons", None)
    if reasons:
        return _describe(reasons[0].value)
    match error:
        case network.DNSLookupError():
            return "its name does not resolve"
        case network.ConnectionRefusedError():
            return "connection refused"
        case VerificationError():
            return "its certificate is for another host"
        case SSL.Error():
            details = error.args[0] if error.args and isinstance(error.args[0], list) else ()
            return "TLS failed: " + (", ".join(str(part[-1]) for part in details) or "no reason given")
    return type(error).__name__
