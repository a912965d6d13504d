"""Authentication: who sent a request, and which actions the rules allow that client.

Only the head of a request is needed, so no part of a body is read from a client that is refused. Rules are
matched against the name of the repository before any content is looked up: a refusal has the same
wording and takes the same time whether or not the content exists.

No credentials are required for what the rules allow to anonymous clients: pulling from an open repository
needs no token. A docker daemon that sends its password for Docker Hub to a mirror's token service gets a
token for what is open there, and the password is not checked. Where a user is required, or where a
password is sent for a hosted repository, it must be correct.
"""

from collections.abc import Callable, Iterable

import attrs

from mirrord.access import challenge
from mirrord.access.credentials import Basic, Credentials, read_credentials
from mirrord.access.rules import Action, ClientIdentity, Rules
from mirrord.access.scopes import Scope
from mirrord.access.tokens import TOKEN_SECONDS, Claims, InvalidToken, TokenIssuer
from mirrord.access.users import Users
from mirrord.oci.errors import Denied, NameUnknown, Unauthorized
from mirrord.oci.names import RepositoryKey, RepositoryName

ResolveScope = Callable[[RepositoryName], Iterable[RepositoryKey]]
"""Returns every repository that a name in a scope can mean, since a scope has neither `ns` nor a prefix."""


@attrs.frozen(kw_only=True)
class Caller:
    """The authenticated client of a request; anonymous where `user` is None.

    `_claims` are those of the token that it authenticated with; `_realm` is None where there are no users.
    """

    identity: ClientIdentity
    user: str | None = None
    _rules: Rules
    _realm: str | None = None
    _claims: Claims | None = None

    def is_allowed(self, action: Action, key: RepositoryKey, name: RepositoryName | None = None) -> bool:
        """Return whether the client may do this in the repository, which its request calls `name`.

        A list passes no `name`: its entries need not be covered by the scope of the client's token.
        """
        if self._rules.allows(action, key, self.identity):
            return True
        return self._rules.allows(action, key, self.identity, self.user) and (
            name is None or self._claims is None or self._claims.covers(name, action, key)
        )

    def require(self, action: Action, key: RepositoryKey, name: RepositoryName, *more: Scope) -> None:
        """Refuse the request unless the client may do this in the repository, which it calls `name`.

        Where the client needs another token, the challenge requests one that also covers `more`.

        Raises:
            Unauthorized: The client must log in first, or needs a token for another scope.
            Denied: The client may not do this.
        """
        if self.is_allowed(action, key, name):
            return
        is_allowed = self._rules.allows(action, key, self.identity, self.user)
        if self._realm is None or (self.user is not None and not is_allowed):
            raise Denied(self._rules.refusal)
        scopes = (Scope(name, frozenset({Action.PULL, action})), *more)
        error = None if self._claims is None else challenge.INSUFFICIENT_SCOPE
        raise Unauthorized("authentication required", challenge=challenge.bearer(self._realm, scopes, error))

    def require_login(self) -> None:
        """Refuse a client that has sent neither a token nor a password (see challenge.py).

        Raises:
            Unauthorized: The client must fetch a token first.
        """
        if self._realm is not None and self.user is None and self._claims is None:
            raise Unauthorized("authentication required", challenge=challenge.bearer(self._realm))


@attrs.frozen
class IssuedToken:
    """A response of the token service; `scopes` are the requested ones as far as they are granted."""

    token: str = attrs.field(repr=False)
    scopes: tuple[Scope, ...]
    seconds: int = TOKEN_SECONDS


@attrs.define(eq=False, kw_only=True)
class Authenticator:
    """Authenticates clients under one configuration; without `users` and `tokens` all are anonymous.

    `realm` is the configured origin of the token service; None: that of the request.
    """

    _rules: Rules
    _resolve_scope: ResolveScope
    _users: Users | None = None
    _tokens: TokenIssuer | None = None
    _realm: str | None = None

    async def authenticate(self, identity: ClientIdentity) -> Caller:
        """Return the client of a request; waits only where a password has to be checked.

        Raises:
            Unauthorized: The credentials are wrong.
            TooManyRequests: Too many wrong passwords were sent.
        """
        if self._users is None or self._tokens is None:
            return Caller(identity=identity, rules=self._rules)
        realm = self._realm or identity.origin
        user: str | None = None
        claims: Claims | None = None
        match _read_credentials(identity, challenge.bearer(realm)):
            case Basic() as basic:
                await self._log_in(self._users, basic, identity, challenge.bearer(realm))
                user = basic.username
            case None:
                pass
            case bearer:
                claims = self._read_token(self._tokens, self._users, bearer.token, realm)
                user = claims.user
        return Caller(identity=identity, user=user, rules=self._rules, realm=realm, claims=claims)

    async def issue_token(
        self, identity: ClientIdentity, scopes: Iterable[Scope], basic: Basic | None = None
    ) -> IssuedToken:
        """Issue a token for as much of these scopes as the client may do.

        `basic` is a password from the body of the request; None: that of its Authorization header, if any.

        Raises:
            Unauthorized: The user name or the password is wrong.
            TooManyRequests: Too many wrong passwords were sent.
            NameUnknown: There is no token service, since no users are configured.
        """
        if self._users is None or self._tokens is None:
            raise NameUnknown("there is no token service: no users are configured")
        requested = tuple(scopes)
        user, password_hash = None, b""
        if basic is None:
            match _read_credentials(identity, challenge.BASIC):
                case Basic() as sent:
                    basic = sent
        if basic is not None and not self._is_open(identity, requested):
            password_hash = await self._log_in(self._users, basic, identity, challenge.BASIC)
            user = basic.username
        granted = tuple(filter(None, (self._granted(scope, identity, user) for scope in requested)))
        return IssuedToken(self._tokens.issue(user, granted, password_hash), granted)

    async def _log_in(self, users: Users, basic: Basic, identity: ClientIdentity, remedy: str) -> bytes:
        """Return the hash that the password matches."""
        password_hash = await users.check(basic.username, basic.password, identity.address)
        if password_hash is None:
            raise Unauthorized("wrong user name or password", challenge=remedy)
        return password_hash

    def _read_token(self, tokens: TokenIssuer, users: Users, token: str, realm: str) -> Claims:
        try:
            claims = tokens.read(token)
            if claims.user is not None:
                _check_generation(tokens, claims, users.password_hash(claims.user))
        except InvalidToken as error:
            remedy = challenge.bearer(realm, error=challenge.INVALID_TOKEN)
            raise Unauthorized(f"invalid token: {error}", challenge=remedy) from None
        return claims

    def _granted(self, scope: Scope, identity: ClientIdentity, user: str | None) -> Scope | None:
        """Return what is allowed of a scope in any of the repositories that it can mean; None if nothing."""
        granted = {
            (action, key.upstream)
            for key in self._resolve_scope(scope.name)
            for action in scope.actions
            if self._rules.allows(action, key, identity, user)
        }
        if not granted:
            return None
        actions = frozenset(action for action, _ in granted)
        return Scope(scope.name, actions, frozenset(registry for _, registry in granted))

    def _is_open(self, identity: ClientIdentity, scopes: tuple[Scope, ...]) -> bool:
        """Return whether the scopes mean only mirrored repositories that allow this without a user."""
        return bool(scopes) and all(
            not key.is_hosted and self._rules.allows(action, key, identity)
            for scope in scopes
            for key in self._resolve_scope(scope.name)
            for action in scope.actions
        )


def _check_generation(tokens: TokenIssuer, claims: Claims, password_hash: bytes | None) -> None:
    if password_hash is None:
        raise InvalidToken("its user no longer exists")
    if tokens.generation(password_hash) != claims.generation:
        raise InvalidToken("the password of its user has changed")


def _read_credentials(identity: ClientIdentity, remedy: str) -> Credentials | None:
    if identity.authorization is None:
        return None
    try:
        return read_credentials(identity.authorization)
    except ValueError as error:
        raise Unauthorized(f"malformed Authorization header: {error}", challenge=remedy) from None
