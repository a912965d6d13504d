"""Gate: whether whoever sent a request may do what it asks.

It needs the head of a request alone, so that nothing of a body is read from whom it refuses. It asks
the rules by the name of the repository before anybody looks for content: what is refused is refused in
the same words and the same time whether it exists or not.

Who may do without a user what they ask is not asked for one: pulling what is open needs no token, and
a docker daemon that brings its password for Docker Hub to the token service of a mirror gets a token
for what is open there, and the password is not looked at. Where a user is needed, or a password is
brought to a hosted repository, it has to be right.
"""

from collections.abc import Iterable

import attrs

from mirrord.access import challenge
from mirrord.access.credentials import Basic, Credentials, read_credentials
from mirrord.access.ports import Names
from mirrord.access.rules import Action, Identity, Rules
from mirrord.access.scopes import Scope
from mirrord.access.tokens import TOKEN_SECONDS, Claims, InvalidToken, TokenIssuer
from mirrord.access.users import Users
from mirrord.oci.errors import Denied, NameUnknown, Unauthorized
from mirrord.oci.names import RepositoryKey, RepositoryName


@attrs.frozen
class Asking:
    """What the head of a request says of who sent it.

    `origin` is scheme and host of this registry as the client calls them, `certificates` the names in
    the client's certificate; `address` is empty where it is not to be believed.
    """

    origin: str
    address: str
    certificates: frozenset[str] = frozenset()
    authorization: str | None = attrs.field(default=None, repr=False)

    def identity(self, user: str | None = None) -> Identity:
        """Who that is."""
        return Identity(user, self.certificates, self.address)


@attrs.frozen
class Caller:
    """Somebody who asks, recognised; `claims` where a token says who they are."""

    identity: Identity
    _rules: Rules
    _realm: str | None
    _claims: Claims | None = None

    def may(self, action: Action, source: RepositoryKey, name: RepositoryName | None = None) -> bool:
        """Whether they may do this in the repository, which they call `name`; for lists, without one."""
        if self._rules.allows(self.identity.without_user, action, source):
            return True
        return self._rules.allows(self.identity, action, source) and (
            name is None or self._claims is None or self._claims.covers(name, action)
        )

    def require(self, action: Action, source: RepositoryKey, name: RepositoryName, *more: Scope) -> None:
        """Let them do this in the repository, which they call `name`, or refuse.

        A token that they have to fetch for it is to cover `more` as well.

        Raises:
            Unauthorized: Not without saying who they are, or not with this token.
            Denied: Not at all.
        """
        if self.may(action, source, name):
            return
        is_allowed = self._rules.allows(self.identity, action, source)
        if self._realm is None or (self.identity.user is not None and not is_allowed):
            raise Denied(self._rules.refusal)
        scopes = (Scope(name, frozenset({Action.PULL, action})), *more)
        error = None if self._claims is None else challenge.INSUFFICIENT_SCOPE
        raise Unauthorized("log in to do this", challenge=challenge.bearer(self._realm, scopes, error))

    def require_login(self) -> None:
        """Let them see that this is a registry, or have them fetch a token first: see challenge.py.

        Raises:
            Unauthorized: They have neither a token nor a password.
        """
        if self._realm is not None and self.identity.user is None and self._claims is None:
            raise Unauthorized("a token is needed", challenge=challenge.bearer(self._realm))


@attrs.frozen
class IssuedToken:
    """What the token service gives; `scopes` are those asked for as far as they are granted."""

    token: str = attrs.field(repr=False)
    scopes: tuple[Scope, ...]
    seconds: int = TOKEN_SECONDS


@attrs.define(eq=False)
class Authenticator:
    """Recognises those who ask. Without `users` and `tokens` nobody is asked who they are.

    `realm` is where clients find this registry, if not where they say.
    """

    _rules: Rules
    _names: Names
    _users: Users | None = None
    _tokens: TokenIssuer | None = None
    _realm: str | None = None

    async def admit(self, asking: Asking) -> Caller:
        """Recognise whoever sent a request. It waits for nothing, unless there is a password to check.

        Raises:
            Unauthorized: What they say of themselves is wrong.
            TooManyRequests: They have been wrong too often.
        """
        if self._users is None or self._tokens is None:
            return Caller(asking.identity(), self._rules, None)
        realm = self._realm or asking.origin
        match _credentials(asking, challenge.bearer(realm)):
            case None:
                return Caller(asking.identity(), self._rules, realm)
            case Basic() as basic:
                user = await self._log_in(self._users, basic, asking, challenge.bearer(realm))
                return Caller(asking.identity(user), self._rules, realm)
            case bearer:
                claims = self._claims(self._tokens, self._users, bearer.token, realm)
                return Caller(asking.identity(claims.user), self._rules, realm, claims)

    async def grant(self, asking: Asking, scopes: Iterable[Scope], basic: Basic | None = None) -> IssuedToken:
        """A token for as much of these scopes as whoever asks may do; with `basic`, that is their password.

        Raises:
            Unauthorized: The user or the password is wrong.
            TooManyRequests: They have been wrong too often.
            NameUnknown: There are no tokens here.
        """
        if self._users is None or self._tokens is None:
            raise NameUnknown("nobody logs in here: there are no users")
        asked = tuple(scopes)
        user = None
        if basic is None:
            match _credentials(asking, challenge.BASIC):
                case Basic() as said:
                    basic = said
        if basic is not None and not self._is_open(asking, asked):
            user = await self._log_in(self._users, basic, asking, challenge.BASIC)
        granted = tuple(filter(None, (self._allowed(asking.identity(user), scope) for scope in asked)))
        return IssuedToken(self._tokens.issue(user, granted), granted)

    async def _log_in(self, users: Users, basic: Basic, asking: Asking, remedy: str) -> str:
        if await users.check(basic.username, basic.password, asking.address):
            return basic.username
        raise Unauthorized("the user or the password is wrong", challenge=remedy)

    def _claims(self, tokens: TokenIssuer, users: Users, token: str, realm: str) -> Claims:
        try:
            claims = tokens.read(token)
            if claims.user is not None and not users.has(claims.user):
                raise InvalidToken("of a user who is none")
        except InvalidToken as error:
            remedy = challenge.bearer(realm, error=challenge.INVALID_TOKEN)
            raise Unauthorized(f"the token is not valid: {error}", challenge=remedy) from None
        return claims

    def _allowed(self, identity: Identity, scope: Scope) -> Scope | None:
        """What of a scope may be done in any of the repositories that its name may mean."""
        sources = tuple(self._names.resolve_scope(scope.name))
        actions = frozenset(
            action
            for action in scope.actions
            if any(self._rules.allows(identity, action, source) for source in sources)
        )
        return Scope(scope.name, actions) if actions else None

    def _is_open(self, asking: Asking, scopes: tuple[Scope, ...]) -> bool:
        """Whether these are all mirrored repositories, in which everybody may do what is asked."""
        return bool(scopes) and all(
            not source.is_hosted and self._rules.allows(asking.identity(), action, source)
            for scope in scopes
            for source in self._names.resolve_scope(scope.name)
            for action in scope.actions
        )


def _credentials(asking: Asking, remedy: str) -> Credentials | None:
    if asking.authorization is None:
        return None
    try:
        return read_credentials(asking.authorization)
    except ValueError as error:
        raise Unauthorized(f"the Authorization header is wrong: {error}", challenge=remedy) from None
