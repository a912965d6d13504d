"""The API: requests to the registry itself, authorised, let through by the circuit, judged by outcome."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from mirrord.observe.events import Event
from mirrord.oci.errors import (
    AccountRefused,
    RegistryError,
    UpstreamBusy,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
)
from mirrord.oci.names import RepositoryName
from mirrord.upstream.authorization import Authorizer
from mirrord.upstream.circuit import Circuit, Ticket
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.outages import OutageLogger
from mirrord.upstream.quota import UNKNOWN, Quota
from mirrord.upstream.retry import retry
from mirrord.upstream.tokens import TokenDenied
from mirrord.upstream.transport import HTTPTransport, UpstreamResponse

T = TypeVar("T")

PATIENT_SECONDS = 5.0
"""A timeout after less than this marks the upstream as degraded and does not count as a failure."""

_MAX_SENDS = 3
"""As nobody, with a token that was held, with a token that is fresh."""


@attrs.frozen
class UpstreamRequest:
    """One question to the registry; `url` is absolute. `more` says which headers go to an origin."""

    method: str
    url: str
    kind: str
    repository: RepositoryName
    more: Callable[[WebOrigin], Headers] = lambda _: Headers()
    is_followed: bool = True

    @property
    def is_manifest_get(self) -> bool:
        """Whether Docker Hub counts it as a pull."""
        return self.kind == "manifest" and self.method == "GET"


@attrs.frozen
class LastError:
    """How the upstream failed most recently, and when by the reactor's clock; nothing in it is secret."""

    message: str
    at: float


@attrs.define(eq=False)
class RegistryAPI:
    """The registry's API, as all calls of one client use it."""

    _upstream: str
    home: WebOrigin
    wire: HTTPTransport
    circuit: Circuit
    clock: IReactorTime
    _authorizer: Authorizer
    _random: Random
    quota: Quota = attrs.field(default=UNKNOWN, init=False)
    last_error: LastError | None = attrs.field(default=None, init=False)
    _outages: OutageLogger = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._outages = OutageLogger(self._upstream, self.circuit, self.clock)

    async def ask(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """Ask once. Any status but 401 (which is met, or Denied), 429 and 5xx is an answer.

        Raises:
            CircuitOpen: Nobody was asked.
            UpstreamError: The upstream failed, or is busy.
            Denied: It does not let us read this.
        """
        ticket = self.circuit.admit(self.clock.seconds(), is_manifest_get=request.is_manifest_get)
        began_with = deadline.remaining_seconds
        try:
            answer = await self._send(request, deadline)
            await self._judge(answer, ticket, request, deadline)
        except UpstreamBusy as error:
            self.last_error = LastError(str(error), self.clock.seconds())
            if ticket.is_settled:
                raise
            raise self._limited(ticket, error.retry_after_seconds, manifest_gets_only=False) from None
        except UpstreamError as error:
            self._note(error, ticket, was_patient=began_with >= PATIENT_SECONDS)
            raise
        except TokenDenied:
            raise
        except RegistryError:
            ticket.succeeded()
            raise
        finally:
            ticket.abandoned()
            self._outages.look()
        return answer

    async def persist(self, call: Callable[[], Awaitable[T]], attempts: int, deadline: Deadline) -> T:
        """The result of `call`, which asks, tried again where that may help."""
        return await retry(
            call,
            attempts=attempts,
            deadline=deadline,
            clock=self.clock,
            random=self._random,
            retried=self.wire.retried,
        )

    async def discard(self, answer: UpstreamResponse, deadline: Deadline) -> None:
        """Be done with an answer whose body says nothing to us."""
        await self.wire.bodies.discard(answer.response, deadline)

    async def _send(self, request: UpstreamRequest, deadline: Deadline) -> UpstreamResponse:
        """The answer to a request, authorised as the registry wants it."""
        began_at = self.clock.seconds()
        grant = await self._authorizer.known(request.repository, deadline)
        sends = 0
        while True:
            authorization = None if grant is None else grant.authorization

            def headers_for(origin: WebOrigin, authorization: str | None = authorization) -> Headers:
                headers = request.more(origin)
                if authorization is not None and origin == self.home:
                    headers.setRawHeaders("Authorization", [authorization])
                return headers

            answer = await self.wire.ask(
                request.method,
                request.url,
                headers_for,
                kind=request.kind,
                deadline=deadline,
                follow=request.is_followed,
            )
            sends += 1
            if answer.status != 401 or answer.origin != self.home or sends == _MAX_SENDS:
                return answer
            grant = await self._authorizer.meet(answer, request.repository, grant, began_at, deadline)

    async def _judge(
        self, answer: UpstreamResponse, ticket: Ticket, request: UpstreamRequest, deadline: Deadline
    ) -> None:
        """Settle the ticket by the answer's status."""
        self.quota = Quota.parse(answer.response.headers) or self.quota
        status = answer.status
        if status == 429:
            await self.discard(answer, deadline)
            raise self._limited(
                ticket, answer.retry_after_seconds, manifest_gets_only=request.is_manifest_get
            )
        if status >= 500:
            await self.discard(answer, deadline)
            raise UpstreamRefused(f"the upstream answered {status}", upstream_status=status)
        ticket.succeeded()

    def _limited(
        self, ticket: Ticket, retry_after_seconds: float | None, *, manifest_gets_only: bool
    ) -> UpstreamBusy:
        """Settle the ticket by a 429."""
        seconds = ticket.limited(
            self.clock.seconds(), retry_after_seconds, manifest_gets_only=manifest_gets_only
        )
        self._outages.began(
            "it is over its limit (429)",
            seconds,
            Event.UPSTREAM_LIMITED,
            manifest_gets_only=manifest_gets_only,
        )
        return UpstreamBusy(
            "the upstream is over its limit (429)", retry_after_seconds=seconds, upstream_status=429
        )

    def _note(self, error: UpstreamError, ticket: Ticket, *, was_patient: bool) -> None:
        """Settle the ticket by what went wrong; an account that is refused says nothing about the rest."""
        self.last_error = LastError(str(error), self.clock.seconds())
        if ticket.is_settled or isinstance(error, AccountRefused):
            return
        if isinstance(error, UpstreamTimeout) and not was_patient:
            self.circuit.mark_degraded(self.clock.seconds())
        elif ticket.failed():
            wait = self.circuit.wait_seconds(self.clock.seconds(), of_manifests=False)
            self._outages.began(str(error), wait, Event.UPSTREAM_FAILING)
