"""Faults of a fake registry, as a script of frozen values.

A `Trait` (no ranges, chunked bodies) applies to every request that it matches. An `Event` applies
to one: a request consumes the first event that matches, so that `[Cut(after=10), Cut(after=20),
Stall(after=5)]` interrupts three successive responses.
"""

from collections.abc import Iterable
from enum import StrEnum

import attrs


class Kind(StrEnum):
    """The kind of a request."""

    PING = "ping"
    MANIFEST = "manifest"
    BLOB = "blob"  # at the registry, which redirects
    CONTENT = "content"  # the blob's bytes, wherever they come from
    TAGS = "tags"
    REFERRERS = "referrers"
    TOKEN = "token"
    CHALLENGE = "challenge"  # any of the registry's, without a token that is good for it
    OTHER = "other"


@attrs.frozen(kw_only=True)
class Fault:
    """A fault of the responses to requests of the kind `on` (None: any) whose target contains `match`.

    It applies to `times` requests; None means all.
    """

    on: Kind | None = None
    times: int | None = 1
    match: str = ""
    method: str | None = None

    def is_for(self, kind: Kind, method: str, target: str) -> bool:
        """Return whether this fault applies to a request."""
        return self.on in {None, kind} and self.method in {None, method} and self.match in target


@attrs.frozen(kw_only=True)
class Event(Fault):
    """A fault of one response."""


@attrs.frozen(kw_only=True)
class Trait(Fault):
    """A fault of all responses, while it is in the script."""

    times: int | None = None


@attrs.frozen(kw_only=True)
class BodyEvent(Event):
    """A fault of one body; by default of the content of a blob."""

    on: Kind | None = Kind.CONTENT
    method: str | None = "GET"


@attrs.frozen
class Cut(BodyEvent):
    """Close the connection after so many bytes of the body; with a reset if `abort`."""

    after: int = 0
    abort: bool = False


@attrs.frozen
class Stall(BodyEvent):
    """Pause for `seconds` (None: for ever) after so many bytes of the body."""

    after: int = 0
    seconds: float | None = None


@attrs.frozen
class WrongByte(BodyEvent):
    """Flip the byte at this offset of the whole content."""

    at: int = 0


@attrs.frozen
class ShortBody(BodyEvent):
    """End the body after so many bytes, with a Content-Length to match."""

    to: int = 0


@attrs.frozen
class Status(Event):
    """Respond with this status, and with an error document or `body` as plain text."""

    code: int = 500
    retry_after: str | int | None = None
    body: str | None = None


@attrs.frozen
class Html(Event):
    """Respond with a page of HTML, like a captive portal."""

    code: int = 200


@attrs.frozen
class Hang(Event):
    """Never respond."""


@attrs.frozen(kw_only=True)
class ExpiredUrl(Event):
    """Respond with 403 in XML, like a CDN whose signed URL has expired."""

    on: Kind | None = Kind.CONTENT


@attrs.frozen
class Delay(Trait):
    """Delay the response."""

    seconds: float = 0.1


@attrs.frozen(kw_only=True)
class NoRange(Trait):
    """Ignore ranges."""

    on: Kind | None = Kind.CONTENT


@attrs.frozen(kw_only=True)
class NoRedirect(Trait):
    """Send blobs from the registry itself; the request counts as one for their content."""

    on: Kind | None = Kind.BLOB


@attrs.frozen(kw_only=True)
class Chunked(Trait):
    """Send the body in chunks, without a Content-Length."""


@attrs.frozen
class MissingHeaders(Trait):
    """Leave these headers out."""

    names: tuple[str, ...] = ()


@attrs.frozen
class Header(Trait):
    """Set a header."""

    name: str = "X-Fake"
    value: str = ""


@attrs.frozen
class HugeHeaders(Trait):
    """Add so many bytes of meaningless headers."""

    size: int = 16 * 1024


@attrs.define(eq=False)
class _Scripted:
    """A fault and the number of requests to which it still applies; None is no limit."""

    fault: Fault
    left: int | None

    def use(self) -> None:
        if self.left is not None:
            self.left -= 1


@attrs.define(eq=False)
class Script:
    """The remaining faults, in order."""

    _scripted: list[_Scripted] = attrs.field(factory=list, init=False)

    def add(self, faults: Iterable[Fault]) -> None:
        """Append faults."""
        self._scripted.extend(_Scripted(fault, fault.times) for fault in faults)

    def clear(self) -> None:
        """Delete all faults."""
        self._scripted.clear()

    def is_holding(self, trait: type[Trait], kind: Kind, method: str, target: str) -> bool:
        """Return whether a trait of this class applies to a request; nothing is consumed."""
        return any(
            isinstance(each.fault, trait) and each.left != 0 and each.fault.is_for(kind, method, target)
            for each in self._scripted
        )

    def take(self, kind: Kind, method: str, target: str) -> tuple[Event | None, tuple[Trait, ...]]:
        """Consume and return the faults of one request: the next event and all traits."""
        event: Event | None = None
        traits: list[Trait] = []
        for scripted in self._scripted:
            if scripted.left == 0 or not scripted.fault.is_for(kind, method, target):
                continue
            match scripted.fault:
                case Trait() as trait:
                    traits.append(trait)
                case Event() if event is not None:
                    continue
                case Event() as happening:
                    event = happening
            scripted.use()
        return event, tuple(traits)
