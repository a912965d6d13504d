"""RegistryAPI: authorized requests to the registry itself, admitted by the circuit breaker."""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.web.http_headers import Headers

from mirrord.observe.events import Event
from mirrord.oci.errors import (
    AccountRefused,
    Denied,
    RegistryError,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from mirrord.oci.names import RepositoryName
from mirrord.upstream.authorization import Authorizer
from mirrord.upstream.circuit import Circuit, CircuitState, Ticket
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.quota import UNKNOWN, Quota
from mirrord.upstream.retry import Deadline
from mirrord.upstream.tokens import TokenDenied
from mirrord.upstream.transport import HeadersFor, HTTPTransport, UpstreamResponse

MIN_TIMEOUT_SECONDS = 5.0
"""A timeout after less than this marks the upstream as degraded and does not count as a failure."""

ACCOUNT_LOG_SECONDS = 600.0
"""How often a rejected account is logged while it is used."""

_MAX_SENDS = 3
"""Without credentials, with a cached token, with a fresh token."""


@attrs.frozen
class UpstreamRequest:
    """A request to the registry; `url` is absolute, `headers_for` returns headers by origin."""

    method: str
    url: str
    kind: str = attrs.field(kw_only=True)
    repository: RepositoryName = attrs.field(kw_only=True)
    headers_for: HeadersFor = attrs.field(kw_only=True, default=lambda _: Headers())
    is_followed: bool = attrs.field(kw_only=True, default=True)

    @property
    def is_manifest_get(self) -> bool:
        """Whether Docker Hub counts it as a pull."""
        return self.kind == "manifest" and self.method == "GET"


@attrs.frozen
class LastError:
    """The most recent failure of the upstream, and when by the reactor's clock; it contains no secret."""

    message: str
    at: float


@attrs.define(eq=False)
class OutageLogger:
    """Logs the outages of one upstream, of manifest requests or of all, and the rejections of our account.

    One line when an outage begins and one when it ends, whatever the number of requests that fail and of
    probes in between. `username` is that of the account; None if there is none.
    """

    _upstream: str
    _username: str | None
    _circuit: Circuit
    _clock: IReactorTime
    _since: dict[bool, float] = attrs.field(factory=dict, init=False)
    _rejected_at: float | None = attrs.field(default=None, init=False)
    _log = Logger()

    def opened(self, reason: str, seconds: float, event: Event, *, manifest_gets_only: bool = False) -> None:
        """Log that the circuit is open for this long; at debug level if the outage was logged before."""
        is_known = manifest_gets_only in self._since
        self._since.setdefault(manifest_gets_only, self._clock.seconds())
        self._log.emit(
            LogLevel.debug if is_known else LogLevel.warn,
            "{upstream}: {reason}; circuit open for {what} for {seconds:.1f} s",
            upstream=self._upstream,
            reason=reason,
            what=_requests(manifest_gets_only=manifest_gets_only),
            seconds=seconds,
            event=event,
        )

    def account_rejected(self, reason: str) -> None:
        """Log that the upstream rejects our account, at most once in ACCOUNT_LOG_SECONDS."""
        now = self._clock.seconds()
        if self._rejected_at is not None and now - self._rejected_at < ACCOUNT_LOG_SECONDS:
            return
        self._rejected_at = now
        self._log.warn(
            "{upstream}: {reason}; check the password of {username}",
            upstream=self._upstream,
            reason=reason,
            username=self._username,
            event=Event.ACCOUNT_REJECTED,
        )

    def log_recovery(self) -> None:
        """Log the outages that are over."""
        if not self._since:
            return
        now = self._clock.seconds()
        for manifest_gets_only, since in list(self._since.items()):
            if self._circuit.state(now, of_manifests=manifest_gets_only) is CircuitState.CLOSED:
                del self._since[manifest_gets_only]
                self._log.info(
                    "{upstream}: circuit closed for {what} after {seconds:.1f} s",
                    upstream=self._upstream,
                    what=_requests(manifest_gets_only=manifest_gets_only),
                    seconds=now - since,
                    event=Event.UPSTREAM_RECOVERED,
                )


@attrs.define(eq=False, kw_only=True)
class RegistryAPI:
    """The registry's API, shared by all requests of one client."""

    _upstream: str
    _username: str | None
    home: WebOrigin
    transport: HTTPTransport
    circuit: Circuit
    clock: IReactorTime
    _authorizer: Authorizer
    quota: Quota = attrs.field(default=UNKNOWN, init=False)
    last_error: LastError | None = attrs.field(default=None, init=False)
    _outages: OutageLogger = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outages = OutageLogger(self._upstream, self._username, self.circuit, self.clock)

    async def send(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """Send a request once. Any status but 401 (authorized or Denied), 429 and 5xx is returned.

        Raises:
            CircuitOpen: Nothing was sent.
            UpstreamError: The upstream failed, or limits our requests.
            Denied: It denied access.
        """
        ticket = self.circuit.admit(self.clock.seconds(), is_manifest_get=request.is_manifest_get)
        budget_seconds = deadline.remaining_seconds
        try:
            response = await self._send_authorized(request, deadline)
            await self._settle(ticket, request, response, deadline)
        except UpstreamBusy as error:
            self.last_error = LastError(str(error), self.clock.seconds())
            if ticket.is_settled:
                raise
            raise self._limited(ticket, error.retry_after_seconds, manifest_gets_only=False) from None
        except UpstreamError as error:
            self._failed(ticket, error, is_short=budget_seconds < MIN_TIMEOUT_SECONDS)
            raise
        except TokenDenied:
            raise
        except RegistryError:
            ticket.succeeded()
            raise
        finally:
            ticket.abandoned()
            self._outages.log_recovery()
        return response

    async def _send_authorized(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """Send a request with the credentials that the registry's challenges require."""
        began_at = self.clock.seconds()
        authorization = await self._authorizer.preempt(request.repository, deadline)
        sends = 0
        while True:
            credentials = None if authorization is None else authorization.header

            def headers_for(origin: WebOrigin, credentials: str | None = credentials) -> Headers:
                headers = request.headers_for(origin)
                if credentials is not None and origin == self.home:
                    headers.setRawHeaders("Authorization", [credentials])
                return headers

            response = await self.transport.send(
                request.method,
                request.url,
                headers_for,
                kind=request.kind,
                deadline=deadline,
                follow=request.is_followed,
            )
            sends += 1
            if response.status != 401 or response.origin != self.home or sends == _MAX_SENDS:
                return response
            authorization = await self._authorizer.respond(
                response, request.repository, authorization, began_at=began_at, deadline=deadline
            )

    async def _settle(
        self, ticket: Ticket, request: UpstreamRequest, response: UpstreamResponse, deadline: Deadline
    ) -> None:
        """Settle the ticket by the status of the response; raise the error for a 429 or 5xx."""
        self.quota = Quota.parse(response.raw.headers) or self.quota
        status = response.status
        if status == 429:
            await self.transport.discard(response, deadline)
            raise self._limited(
                ticket, response.retry_after_seconds, manifest_gets_only=request.is_manifest_get
            )
        if status >= 500:
            await self.transport.discard(response, deadline)
            raise UpstreamRefused(f"the upstream responded with {status}", upstream_status=status)
        ticket.succeeded()

    def _limited(
        self, ticket: Ticket, retry_after_seconds: float | None, *, manifest_gets_only: bool
    ) -> UpstreamBusy:
        """Settle the ticket by a 429; return the error to raise."""
        seconds = ticket.limited(
            self.clock.seconds(), retry_after_seconds, manifest_gets_only=manifest_gets_only
        )
        reason = "the upstream limits our requests (429)"
        self._outages.opened(reason, seconds, Event.UPSTREAM_LIMITED, manifest_gets_only=manifest_gets_only)
        return UpstreamBusy(reason, retry_after_seconds=seconds, upstream_status=429)

    def _failed(self, ticket: Ticket, error: UpstreamError, *, is_short: bool) -> None:
        """Settle the ticket by a failure; a rejected account does not count as one."""
        self.last_error = LastError(str(error), self.clock.seconds())
        if isinstance(error, AccountRefused):
            self._outages.account_rejected(str(error))
            return
        if ticket.is_settled:
            return
        if isinstance(error, UpstreamTimeout) and is_short:
            self.circuit.mark_degraded(self.clock.seconds())
        elif ticket.failed():
            wait = self.circuit.wait_seconds(self.clock.seconds(), of_manifests=False)
            self._outages.opened(str(error), wait, Event.UPSTREAM_FAILING)


def refusal(status: int, what: str, unknown: RegistryError) -> RegistryError:
    """Return the error for a response of the registry without `what`; `unknown` is that of a 404."""
    if status in {404, 410}:
        return unknown
    if status in {401, 403}:
        return Denied("the upstream denied access")
    return UpstreamRefused(f"the upstream responded with {status} for {what}", upstream_status=status)


def _requests(*, manifest_gets_only: bool) -> str:
    return "manifest requests" if manifest_gets_only else "all requests"
