"""The state that the three origins of a fake registry share."""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from tests.fakes.content import RegistryContent
from tests.fakes.faults import Kind, NoRedirect, Script
from tests.fakes.journal import Journal, RecordedRequest
from tests.fakes.responses import ScriptedResponse
from tests.fakes.tokens import Tokens


@attrs.define(eq=False)
class RegistryBehavior:
    """The behaviour of a registry without faults.

    `auth` is "bearer", "basic" or None. A registry that `hides_missing` responds with 401 for an
    unknown repository, as Docker Hub does. `url_lifetime_seconds` is the lifetime of a redirect to
    the CDN. A page of tags has at most `page_size`. `accounts` are passwords by name; a bearer realm
    also issues tokens without an account.
    """

    auth: str | None = "bearer"
    hides_missing: bool = False
    has_referrers: bool = False
    url_lifetime_seconds: float = 300.0
    page_size: int = 100
    pull_limit: int = 100
    accounts: dict[str, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class SendingRates:
    """The bytes per second of a response: by digest, else one rate for all; None is no limit."""

    rate: float | None = None
    of_digest: dict[str, float | None] = attrs.field(factory=dict)

    def of(self, digest: str) -> float | None:
        return self.of_digest.get(digest, self.rate)


@attrs.define(eq=False)
class RegistryState:
    """The content, behaviour, faults and journal of one registry, and its origins once they listen."""

    clock: IReactorTime
    behavior: RegistryBehavior
    content: RegistryContent = attrs.field(factory=RegistryContent, init=False)
    journal: Journal = attrs.field(factory=Journal, init=False)
    script: Script = attrs.field(factory=Script, init=False)
    rates: SendingRates = attrs.field(factory=SendingRates, init=False)
    tokens: Tokens = attrs.field(init=False)
    cdn_origin: str = attrs.field(default="", init=False)
    realm_origin: str = attrs.field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = Tokens(self.clock)

    def begin(self, request: Request, kind: Kind) -> ScriptedResponse:
        """Record a request in the journal, and return its response with the faults of the script."""
        method, target = request.method.decode(), request.uri.decode("latin-1")
        if kind is Kind.BLOB and self.script.is_holding(NoRedirect, kind, method, target):
            kind = Kind.CONTENT
        headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        event, traits = self.script.take(kind, method, target)
        entry = self.journal.open(RecordedRequest(method, target, kind, headers))
        return ScriptedResponse(request, self.clock, entry, kind, event, traits)
