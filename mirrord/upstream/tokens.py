"""Tokens: what a token service gives out, kept until it runs out (distribution, auth/token.md).

Fetched once for all who wait, whoever asked first: the fetch has its own patience and several
attempts, so that one request that hangs in the token service costs seconds and not the pull.
"""

import base64
import json
from random import Random
from typing import Any, Self
from urllib.parse import urlencode

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from mirrord.config.config import AccountConfig
from mirrord.flight.single import SingleFlight
from mirrord.oci.errors import AccountRefused, Denied, UpstreamBusy, UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.origin import WebOrigin, may_receive_account
from mirrord.upstream.retry import retry
from mirrord.upstream.transport import HTTPTransport, UpstreamResponse

ATTEMPTS = 3
ATTEMPT_SECONDS = 5.0
DEFAULT_LIFETIME_SECONDS = 60.0
MAX_LIFETIME_SECONDS = 86_400.0
EARLY_SECONDS = 10.0
"""A token is not used in its last seconds: a request may be longer on its way than that."""

MAX_BYTES = 64 * 1024
"""Of an answer, which may hold its token twice: as `token` and as `access_token`."""

MAX_TOKEN_LENGTH = 16 * 1024
"""No service gives one half as long: hardly a server takes a header of 8 KiB."""

_MAX_KEPT = 1000


@attrs.frozen(cache_hash=True)
class TokenRequest:
    """What a token is asked for: the service, the scopes, and as whom (None: as nobody)."""

    realm: str
    service: str | None
    scopes: tuple[str, ...]
    account: AccountConfig | None

    @classmethod
    def for_challenge(
        cls,
        challenge: Challenge,
        repository: RepositoryName,
        *,
        home: WebOrigin,
        configured_realm: WebOrigin | None,
        account: AccountConfig | None,
    ) -> Self:
        """Return the request that satisfies a Bearer challenge, with the account where the realm may have it.

        Raises:
            UpstreamRefused: The realm is not a URL, or has no TLS although the upstream at `home` does.
        """
        realm = challenge.parameters.get("realm", "")
        origin = WebOrigin.of(realm)
        if home.is_secure and not origin.is_secure:
            raise UpstreamRefused("the upstream named a token service without TLS")
        scopes = challenge.parameters.get("scope", "").split() or [f"repository:{repository}:pull"]
        if not may_receive_account(origin, home=home, configured=configured_realm):
            account = None
        return cls(realm, challenge.parameters.get("service"), tuple(scopes), account)

    @property
    def url(self) -> str:
        """The request for it."""
        service = [("service", self.service)] if self.service is not None else []
        query = urlencode([*service, *(("scope", scope) for scope in self.scopes)])
        return f"{self.realm}{'&' if '?' in self.realm else '?'}{query}"


@attrs.frozen
class UpstreamToken:
    """A token, and the times (of the reactor's clock) between which it is good."""

    value: str = attrs.field(repr=False)
    fetched_at: float
    expires_at: float

    @classmethod
    def parse(cls, body: bytes, now: float) -> Self:
        """Read the JSON of a token service: `token` or `access_token`, and `expires_in` in seconds.

        Raises:
            UpstreamRefused: There is no token in it, or too long a one.
        """
        try:
            document: Any = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        fields = document if isinstance(document, dict) else {}
        value = fields.get("token") or fields.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise UpstreamRefused("the token service answered without a token")
        if len(value) > MAX_TOKEN_LENGTH:
            raise UpstreamRefused(
                f"the token service sent a token of more than {MAX_TOKEN_LENGTH} characters"
            )
        lifetime = fields.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
            lifetime = DEFAULT_LIFETIME_SECONDS
        return cls(value, now, now + min(lifetime, MAX_LIFETIME_SECONDS))

    def is_good(self, now: float) -> bool:
        """Whether it may be used for a request that begins now."""
        return now < self.expires_at - EARLY_SECONDS


class TokenDenied(Denied):
    """The token service gives nothing to nobody in particular; the registry itself was not heard."""


@attrs.define(eq=False)
class TokenCache:
    """The tokens of one upstream."""

    _wire: HTTPTransport
    _clock: IReactorTime
    _random: Random
    _kept: dict[TokenRequest, UpstreamToken] = attrs.field(factory=dict, init=False, repr=False)
    _flight: SingleFlight[TokenRequest, UpstreamToken] = attrs.field(factory=SingleFlight, init=False)

    async def get(self, order: TokenRequest, deadline: Deadline) -> UpstreamToken:
        """A token that is good now, held or fetched.

        Raises:
            AccountRefused: The service does not take our account.
            TokenDenied: It gives nothing to nobody in particular.
            UpstreamError: It failed, or did not answer by the deadline.
        """
        token = self._kept.get(order)
        if token is not None and token.is_good(self._clock.seconds()):
            return token
        return await deadline.wait(self._flight.run(order, lambda: self._fetch(order)), "a token")

    def drop(self, order: TokenRequest, token: UpstreamToken) -> None:
        """The registry did not take this one; a newer one stays."""
        if self._kept.get(order) is token:
            del self._kept[order]

    async def _fetch(self, order: TokenRequest) -> UpstreamToken:
        deadline = Deadline.after(self._clock, ATTEMPTS * (ATTEMPT_SECONDS + 1))
        token = await retry(
            lambda: self._ask(order),
            attempts=ATTEMPTS,
            deadline=deadline,
            clock=self._clock,
            random=self._random,
            final=(AccountRefused, UpstreamBusy),
        )
        self._keep(order, token)
        return token

    async def _ask(self, order: TokenRequest) -> UpstreamToken:
        deadline = Deadline.after(self._clock, ATTEMPT_SECONDS)
        realm = WebOrigin.of(order.realm)

        def headers_for(origin: WebOrigin) -> Headers:
            headers = Headers({"Accept": ["application/json"]})
            if order.account is not None and origin == realm:
                headers.setRawHeaders("Authorization", [basic(order.account)])
            return headers

        answer = await self._wire.ask("GET", order.url, headers_for, kind="token", deadline=deadline)
        if answer.status != 200:
            await self._wire.bodies.discard(answer.response, deadline)
            raise _refusal(answer, order)
        body = await self._wire.bodies.read_all(answer.response, MAX_BYTES, deadline)
        return UpstreamToken.parse(body, self._clock.seconds())

    def _keep(self, order: TokenRequest, token: UpstreamToken) -> None:
        self._kept.pop(order, None)
        while len(self._kept) >= _MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[order] = token


def basic(account: AccountConfig) -> str:
    """The value of Authorization for the Basic scheme (RFC 7617)."""
    pair = f"{account.username}:{account.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _refusal(answer: UpstreamResponse, order: TokenRequest) -> Exception:
    """What a token service's answer other than 200 means."""
    status = answer.status
    if status in {401, 403}:
        if order.account is not None:
            return AccountRefused("the token service does not take our account", upstream_status=status)
        return TokenDenied("the token service gives no token for this repository")
    if status == 429:
        return UpstreamBusy(
            "the token service is over its limit (429)",
            retry_after_seconds=answer.retry_after_seconds,
            upstream_status=status,
        )
    return UpstreamRefused(f"the token service answered {status}", upstream_status=status)
