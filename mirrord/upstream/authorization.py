"""Authorizer: the credentials of requests to a registry, and the reaction to a 401.

Which token service may receive the account is decided by `UpstreamConfig.may_receive_account`; any other
is sent an anonymous request.
"""

import attrs
from cachetools import LRUCache
from twisted.web.http_headers import Headers

from mirrord.config.config import UpstreamConfig
from mirrord.oci.errors import AccountRefused, Denied, RegistryError, UpstreamBusy
from mirrord.oci.names import RepositoryName
from mirrord.upstream.challenge import Challenge, choose
from mirrord.upstream.retry import Deadline
from mirrord.upstream.tokens import TokenCache, TokenDenied, TokenRequest, UpstreamToken, basic
from mirrord.upstream.transport import HTTPTransport, UpstreamResponse

_MAX_REPOSITORIES = 1000


@attrs.frozen
class Authorization:
    """The Authorization header of a request, and its token with the request for it; None for Basic."""

    header: str = attrs.field(repr=False)
    token_request: TokenRequest | None = None
    token: UpstreamToken | None = None


@attrs.define(eq=False)
class Authorizer:
    """Remembers the challenges of the repositories of one upstream, and satisfies them.

    Per repository the token request of its last challenge is cached; None if that was Basic.
    """

    _config: UpstreamConfig
    _transport: HTTPTransport
    _tokens: TokenCache
    _token_requests: LRUCache[RepositoryName, TokenRequest | None] = attrs.field(
        factory=lambda: LRUCache(_MAX_REPOSITORIES), init=False
    )

    async def preempt(self, repository: RepositoryName, deadline: Deadline) -> Authorization | None:
        """Satisfy the last challenge of a repository in advance; None if the registry is to challenge us."""
        if repository not in self._token_requests:
            return None
        token_request = self._token_requests[repository]
        try:
            return await self._authorize(token_request, deadline)
        except UpstreamBusy:
            raise
        except RegistryError as error:
            # The token service may have moved since; the registry's next challenge names the new one.
            self._forget(repository, token_request)
            if isinstance(error, TokenDenied):
                return None
            raise

    async def respond(
        self,
        response: UpstreamResponse,
        repository: RepositoryName,
        rejected: Authorization | None,
        *,
        began_at: float,
        deadline: Deadline,
    ) -> Authorization:
        """Satisfy the challenge of a 401 to a request that was sent with `rejected`.

        If a token that was fetched since `began_at` is rejected, no other will be accepted: the registry
        then means that the repository does not exist for us (as Docker Hub does), and not the token.

        Raises:
            Denied: There are no better credentials, or the token service denies a token.
            AccountRefused: The registry itself rejected our account.
            UpstreamError: No token could be fetched.
        """
        challenge = choose(Challenge.parse_all(response.headers("WWW-Authenticate")))
        await self._transport.discard(response, deadline)
        if challenge is None:
            challenge = await self._ping(deadline)
        if challenge is None:
            raise Denied("the upstream requires an unsupported kind of credentials")
        token_request = None
        if challenge.scheme != "basic":
            token_request = TokenRequest.for_challenge(challenge, repository, self._config)
        if token_request is None and not self._config.account:
            raise Denied("the upstream requires an account, and none is configured")
        if token_request is None and rejected is not None and rejected.token is None:
            raise AccountRefused("the upstream rejected our account", upstream_status=401)
        if rejected is not None and rejected.token_request is not None and rejected.token is not None:
            if rejected.token_request == token_request and rejected.token.fetched_at >= began_at:
                raise Denied("not found at the upstream, or access denied")
            self._tokens.drop(rejected.token_request, rejected.token)
        self._token_requests[repository] = token_request
        try:
            return await self._authorize(token_request, deadline)
        except TokenDenied:
            self._forget(repository, token_request)
            raise

    async def _authorize(self, token_request: TokenRequest | None, deadline: Deadline) -> Authorization:
        if token_request is not None:
            token = await self._tokens.get(token_request, deadline)
            return Authorization(f"Bearer {token.value}", token_request, token)
        if not self._config.account:
            raise Denied("the upstream requires an account, and none is configured")
        return Authorization(basic(self._config.account[0]))

    def _forget(self, repository: RepositoryName, token_request: TokenRequest | None) -> None:
        """Forget a challenge that could not be satisfied, unless it was replaced since."""
        if self._token_requests.get(repository) is token_request:
            self._token_requests.pop(repository, None)

    async def _ping(self, deadline: Deadline) -> Challenge | None:
        """Return the challenge of `/v2/`: Artifact Registry sends none with its other responses."""
        response = await self._transport.send(
            "GET",
            f"{self._config.url}/v2/",
            lambda _: Headers(),
            kind="ping",
            deadline=deadline,
            follow=False,
        )
        await self._transport.discard(response, deadline)
        return choose(Challenge.parse_all(response.headers("WWW-Authenticate")))
