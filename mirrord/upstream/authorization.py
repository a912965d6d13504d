"""The authorizer: what a request to the registry carries, and what is done about a 401.

Which token service may receive the account: `may_receive_account` in origin.py; any other is asked
without it.
"""

import attrs
from twisted.web.http_headers import Headers

from mirrord.config.config import AccountConfig
from mirrord.oci.errors import AccountRefused, Denied, RegistryError, UpstreamBusy
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.origin import WebOrigin
from mirrord.upstream.tokens import TokenCache, TokenRequest, UpstreamToken, basic
from mirrord.upstream.transport import HTTPTransport, UpstreamResponse

_MAX_REMEMBERED = 1000


@attrs.frozen
class Authorization:
    """What lets one request in: a header, and the token in it as ordered; no token if it is the account."""

    authorization: str = attrs.field(repr=False)
    order: TokenRequest | None = None
    token: UpstreamToken | None = None


@attrs.define(eq=False)
class Authorizer:
    """Knows what the repositories of one upstream ask for, and meets it."""

    _home: WebOrigin
    _realm: WebOrigin | None
    _account: AccountConfig | None
    _wire: HTTPTransport
    _tokens: TokenCache
    _orders: dict[RepositoryName, TokenRequest | None] = attrs.field(factory=dict, init=False)

    async def known(self, repository: RepositoryName, deadline: Deadline) -> Authorization | None:
        """What its last challenge asked for, met in advance; None where there was none."""
        if repository not in self._orders:
            return None
        order = self._orders[repository]
        try:
            return await self._grant(order, deadline)
        except UpstreamBusy:
            raise
        except RegistryError:
            # The token service may have moved since; the registry's next challenge says where it is.
            if self._orders.get(repository) is order:
                self._orders.pop(repository, None)
            raise

    async def meet(
        self,
        answer: UpstreamResponse,
        repository: RepositoryName,
        refused: Authorization | None,
        began_at: float,
        deadline: Deadline,
    ) -> Authorization:
        """What to ask again with, after a 401 to a request that carried `refused`.

        A token that was fetched since `began_at` is as good as tokens get: the registry then means
        that there is no such repository for us (Docker Hub does so), and not the token.

        Raises:
            Denied: There is nothing better to ask with.
            AccountRefused: The registry does not take our account itself.
            UpstreamError: No token was to be had.
        """
        challenge = choose(Challenge.parse_all(answer.headers("WWW-Authenticate")))
        await self._wire.bodies.discard(answer.response, deadline)
        if challenge is None:
            challenge = await self._ping(deadline)
        if challenge is None:
            raise Denied("the upstream asks for credentials of a kind that we do not have")
        order = None
        if challenge.scheme != "basic":
            order = TokenRequest.for_challenge(
                challenge, repository, home=self._home, configured_realm=self._realm, account=self._account
            )
        if order is None and self._account is None:
            raise Denied("the upstream asks for an account, and none is configured")
        if order is None and refused is not None and refused.token is None:
            raise AccountRefused("the upstream does not take our account", upstream_status=401)
        if refused is not None and refused.order is not None and refused.token is not None:
            if refused.order == order and refused.token.fetched_at >= began_at:
                raise Denied("not found at the upstream, or not for us")
            self._tokens.drop(refused.order, refused.token)
        self._remember(repository, order)
        return await self._grant(order, deadline)

    async def _grant(self, order: TokenRequest | None, deadline: Deadline) -> Authorization:
        if order is not None:
            token = await self._tokens.get(order, deadline)
            return Authorization(f"Bearer {token.value}", order, token)
        if self._account is None:
            raise Denied("the upstream asks for an account, and none is configured")
        return Authorization(basic(self._account))

    async def _ping(self, deadline: Deadline) -> Challenge | None:
        """The challenge of `/v2/`: Artifact Registry sends none with its other answers."""
        answer = await self._wire.ask(
            "GET", f"{self._home}/v2/", lambda _: Headers(), kind="ping", deadline=deadline, follow=False
        )
        await self._wire.bodies.discard(answer.response, deadline)
        return choose(Challenge.parse_all(answer.headers("WWW-Authenticate")))

    def _remember(self, repository: RepositoryName, order: TokenRequest | None) -> None:
        self._orders.pop(repository, None)
        while len(self._orders) >= _MAX_REMEMBERED:
            del self._orders[next(iter(self._orders))]
        self._orders[repository] = order
