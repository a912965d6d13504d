"""The token service of a fake registry: anonymous, or with an account by Basic."""

from urllib.parse import parse_qs

from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.faults import Kind
from tests.fakes.responses import PlainResponse
from tests.fakes.state import RegistryState
from tests.fakes.tokens import account_of


class Realm(Resource):
    """`GET /token?service=…&scope=…`."""

    isLeaf = True

    def __init__(self, state: RegistryState) -> None:
        super().__init__()
        self._state = state

    def render(self, request: Request) -> int:
        """Issue a token, or reject the account."""
        return self._state.begin(request, Kind.TOKEN).send(self._respond(request))

    def _respond(self, request: Request) -> PlainResponse:
        authorization = request.getHeader("Authorization")
        account = account_of(authorization, self._state.behavior.accounts)
        if authorization is not None and account is None:
            return PlainResponse.error(401, message="incorrect username or password")
        query = parse_qs(request.uri.partition(b"?")[2].decode())
        tokens = self._state.tokens
        token = tokens.issue(frozenset(query.get("scope", [])), account)
        return PlainResponse.json(
            {"token": token, "access_token": token, "expires_in": tokens.lifetime_seconds}
        )
