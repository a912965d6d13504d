"""The scene: what the three origins of one fake registry share."""

import attrs
from twisted.internet.interfaces import IReactorTime
from twisted.web.http import Request

from tests.fakes.exchange import Exchange
from tests.fakes.faults import Kind, NoRedirect, Script
from tests.fakes.holdings import Holdings
from tests.fakes.journal import Journal, Seen
from tests.fakes.tokens import Tokens


@attrs.define(eq=False)
class Manners:
    """How a registry behaves when nothing is wrong with it.

    `auth` is "bearer", "basic" or None. A registry that `hides_missing` answers 401 for a
    repository that it does not have, as Docker Hub does. `url_lifetime_seconds` is how long a
    redirect to the CDN is good for. A page of tags has at most `page_size`. `accounts` are
    passwords by name; with a bearer realm nobody needs one.
    """

    auth: str | None = "bearer"
    hides_missing: bool = False
    has_referrers: bool = False
    url_lifetime_seconds: float = 300.0
    page_size: int = 100
    pull_limit: int = 100
    accounts: dict[str, str] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Pace:
    """Bytes a second an answer: for some digests their own, else one for all; None is no bound."""

    rate: float | None = None
    of_digest: dict[str, float | None] = attrs.field(factory=dict)

    def of(self, digest: str) -> float | None:
        return self.of_digest.get(digest, self.rate)


@attrs.define(eq=False)
class Scene:
    """One registry's holdings, manners, faults and memory; its origins by name once they listen."""

    clock: IReactorTime
    manners: Manners
    holdings: Holdings = attrs.field(factory=Holdings, init=False)
    journal: Journal = attrs.field(factory=Journal, init=False)
    script: Script = attrs.field(factory=Script, init=False)
    pace: Pace = attrs.field(factory=Pace, init=False)
    tokens: Tokens = attrs.field(init=False)
    cdn_origin: str = attrs.field(default="", init=False)
    realm_origin: str = attrs.field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = Tokens(self.clock)

    def begin(self, request: Request, kind: Kind) -> Exchange:
        """Write a request into the journal and learn what the script has for it."""
        method, target = request.method.decode(), request.uri.decode("latin-1")
        if kind is Kind.BLOB and self.script.is_holding(NoRedirect, kind, method, target):
            kind = Kind.CONTENT
        headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        event, traits = self.script.take(kind, method, target)
        entry = self.journal.open(Seen(method, target, kind, headers))
        return Exchange(request, self.clock, entry, kind, event, traits)
