"""The token service of a fake registry: anonymous, or with an account by Basic."""

from urllib.parse import parse_qs

from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.exchange import Answer
from tests.fakes.faults import Kind
from tests.fakes.scene import Scene
from tests.fakes.tokens import account_of


class Realm(Resource):
    """`GET /token?service=…&scope=…`."""

    isLeaf = True

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene

    def render(self, request: Request) -> int:
        """Issue a token, or refuse the account."""
        return self._scene.begin(request, Kind.TOKEN).answer(self._answer(request))

    def _answer(self, request: Request) -> Answer:
        authorization = request.getHeader("Authorization")
        account = account_of(authorization, self._scene.manners.accounts)
        if authorization is not None and account is None:
            return Answer.error(401, message="incorrect username or password")
        query = parse_qs(request.uri.partition(b"?")[2].decode())
        tokens = self._scene.tokens
        token = tokens.issue(frozenset(query.get("scope", [])), account)
        return Answer.json({"token": token, "access_token": token, "expires_in": tokens.lifetime_seconds})
