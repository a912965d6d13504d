"""Tokens: requested from a token service and cached until they expire (distribution, auth/token.md).

A token is fetched once for all requests that wait for it. The fetch has its own timeout and several
attempts, so that a token service that hangs once costs seconds and not the pull.
"""

import base64
import json
from random import Random
from typing import Any, Self
from urllib.parse import urlencode

import attrs
from cachetools import TLRUCache
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from mirrord.config.config import AccountConfig, UpstreamConfig
from mirrord.flight.single import SingleFlight
from mirrord.oci.errors import AccountRefused, Denied, UpstreamBusy, UpstreamRefused
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.retry import Deadline, retry
from mirrord.upstream.transport import HTTPTransport, UpstreamResponse

ATTEMPTS = 3
ATTEMPT_SECONDS = 5.0
DEFAULT_LIFETIME_SECONDS = 60.0
MAX_LIFETIME_SECONDS = 86_400.0
EARLY_SECONDS = 10.0
"""A token is not used in its last seconds: a request may take that long to arrive."""

MAX_BYTES = 64 * 1024
"""The largest response, which may contain its token twice: as `token` and as `access_token`."""

MAX_TOKEN_LENGTH = 16 * 1024
"""Twice as long as the longest header that most servers accept."""

_MAX_TOKENS = 1000

_DENIALS = frozenset({400, 401, 403, 404})
"""The statuses by which token services deny a token for one repository."""


@attrs.frozen(cache_hash=True, kw_only=True)
class TokenRequest:
    """A request for a token: the service, the scopes, and the account (None: anonymous)."""

    realm: str
    service: str | None
    scopes: tuple[str, ...]
    account: AccountConfig | None

    @classmethod
    def for_challenge(
        cls, challenge: Challenge, repository: RepositoryName, upstream: UpstreamConfig
    ) -> Self:
        """Return the request that satisfies a Bearer challenge, with the account where the realm may have it.

        Raises:
            UpstreamRefused: The realm is not a URL, or has no TLS although the upstream does.
        """
        realm = challenge.parameters.get("realm", "")
        origin = WebOrigin.of(realm)
        if WebOrigin.of(upstream.url).is_secure and not origin.is_secure:
            raise UpstreamRefused("the upstream named a token service without TLS")
        scopes = challenge.parameters.get("scope", "").split() or [f"repository:{repository}:pull"]
        has_account = bool(upstream.account) and upstream.may_receive_account(realm)
        return cls(
            realm=realm,
            service=challenge.parameters.get("service"),
            scopes=tuple(scopes),
            account=upstream.account[0] if has_account else None,
        )

    @property
    def url(self) -> str:
        """The URL of the request."""
        service = [("service", self.service)] if self.service is not None else []
        query = urlencode([*service, *(("scope", scope) for scope in self.scopes)])
        return f"{self.realm}{'&' if '?' in self.realm else '?'}{query}"


@attrs.frozen
class UpstreamToken:
    """A token, and when it was fetched and expires by the reactor's clock."""

    value: str = attrs.field(repr=False)
    fetched_at: float
    expires_at: float

    @classmethod
    def parse(cls, body: bytes, now: float) -> Self:
        """Parse the JSON of a token service: `token` or `access_token`, and `expires_in` in seconds.

        Raises:
            UpstreamRefused: It has no token, or one that is too long.
        """
        try:
            document: Any = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        fields = document if isinstance(document, dict) else {}
        value = fields.get("token") or fields.get("access_token")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
            raise UpstreamRefused("the token service responded without a token")
        if len(value) > MAX_TOKEN_LENGTH:
            raise UpstreamRefused(
                f"the token service sent a token of more than {MAX_TOKEN_LENGTH} characters"
            )
        lifetime = fields.get("expires_in")
        if isinstance(lifetime, bool) or not isinstance(lifetime, int | float) or not lifetime > 0:
            lifetime = DEFAULT_LIFETIME_SECONDS
        return cls(value, now, now + min(lifetime, MAX_LIFETIME_SECONDS))


class TokenDenied(Denied):
    """The token service issues us no token for one repository; says nothing about others or the registry."""


@attrs.define(eq=False)
class TokenCache:
    """The tokens of one upstream."""

    _transport: HTTPTransport
    _clock: IReactorTime
    _random: Random
    _tokens: TLRUCache[TokenRequest, UpstreamToken] = attrs.field(init=False, repr=False)
    _flight: SingleFlight[TokenRequest, UpstreamToken] = attrs.field(factory=SingleFlight, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = TLRUCache(
            _MAX_TOKENS, lambda _, token, __: token.expires_at - EARLY_SECONDS, self._clock.seconds
        )

    async def get(self, request: TokenRequest, deadline: Deadline) -> UpstreamToken:
        """Return a token that is valid now, cached or fetched.

        Raises:
            AccountRefused: The service rejected our account.
            TokenDenied: It issues no token for these scopes.
            UpstreamError: It failed, or did not respond by the deadline.
        """
        token = self._tokens.get(request)
        if token is not None:
            return token
        return await deadline.wait(self._flight.run(request, lambda: self._fetch(request)), "a token")

    def drop(self, request: TokenRequest, token: UpstreamToken) -> None:
        """Drop a token that the registry rejected, unless it was replaced since."""
        if self._tokens.get(request) is token:
            del self._tokens[request]

    async def _fetch(self, request: TokenRequest) -> UpstreamToken:
        deadline = Deadline.after(self._clock, ATTEMPTS * (ATTEMPT_SECONDS + 1))
        token = await retry(
            lambda: self._attempt(request),
            attempts=ATTEMPTS,
            deadline=deadline,
            clock=self._clock,
            random=self._random,
            final=(AccountRefused, UpstreamBusy),
        )
        self._tokens[request] = token
        return token

    async def _attempt(self, request: TokenRequest) -> UpstreamToken:
        deadline = Deadline.after(self._clock, ATTEMPT_SECONDS)
        realm = WebOrigin.of(request.realm)

        def headers_for(origin: WebOrigin) -> Headers:
            headers = Headers({"Accept": ["application/json"]})
            if request.account is not None and origin == realm:
                headers.setRawHeaders("Authorization", [basic(request.account)])
            return headers

        response = await self._transport.send(
            "GET", request.url, headers_for, kind="token", deadline=deadline
        )
        if response.status != 200:
            await self._transport.discard(response, deadline)
            raise _error_of(response, had_account=request.account is not None and response.origin == realm)
        body = await self._transport.bodies.read_all(response.raw, MAX_BYTES, deadline)
        return UpstreamToken.parse(body, self._clock.seconds())


def basic(account: AccountConfig) -> str:
    """Return the value of Authorization for the Basic scheme (RFC 7617)."""
    pair = f"{account.username}:{account.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _error_of(response: UpstreamResponse, *, had_account: bool) -> Exception:
    """Return the error for a response of a token service other than 200, with or without an account sent.

    A 401 is about the account, if one was sent. Otherwise it is about the repository, like 403 and, for names
    that a service does not know or like, 400 and 404: none of them is evidence of an outage.
    """
    status = response.status
    if status == 401 and had_account:
        return AccountRefused("the token service rejected our account", upstream_status=status)
    if status in _DENIALS:
        return TokenDenied(f"the token service denied a token for this repository ({status})")
    if status == 429:
        return UpstreamBusy(
            "the token service limits our requests (429)",
            retry_after_seconds=response.retry_after_seconds,
            upstream_status=status,
        )
    return UpstreamRefused(f"the token service responded with {status}", upstream_status=status)
