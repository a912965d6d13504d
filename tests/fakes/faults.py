"""Faults: what a fake registry does wrong, as a script of frozen values.

A `Trait` is how the registry is (no Range, chunked bodies): every trait that matches a request
holds for it. An `Event` is something that happens: a request meets the first event that matches
and is not used up, so that `[Cut(after=10), Cut(after=20), Stall(after=5)]` breaks three
successive answers, each in its own way.
"""

from collections.abc import Iterable
from enum import StrEnum

import attrs


class Kind(StrEnum):
    """What a request asked for, by where it arrived."""

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
    """Something wrong with the answers to requests `on` a kind (None: any) whose target contains `match`.

    It holds for `times` requests; None means always.
    """

    on: Kind | None = None
    times: int | None = 1
    match: str = ""
    method: str | None = None

    def is_for(self, kind: Kind, method: str, target: str) -> bool:
        """Whether a request meets this fault."""
        return self.on in {None, kind} and self.method in {None, method} and self.match in target


@attrs.frozen(kw_only=True)
class Event(Fault):
    """Something that happens to one answer."""


@attrs.frozen(kw_only=True)
class Trait(Fault):
    """How the registry is."""

    times: int | None = None


@attrs.frozen(kw_only=True)
class BodyEvent(Event):
    """Something that happens while a blob's bytes, by default, are sent."""

    on: Kind | None = Kind.CONTENT
    method: str | None = "GET"


@attrs.frozen
class Cut(BodyEvent):
    """The connection closes after so many bytes of this answer; with a reset if `abort`."""

    after: int = 0
    abort: bool = False


@attrs.frozen
class Stall(BodyEvent):
    """After so many bytes of this answer nothing comes for `seconds` (None: for ever)."""

    after: int = 0
    seconds: float | None = None


@attrs.frozen
class WrongByte(BodyEvent):
    """The byte at this offset of the whole content is flipped; all lengths are right."""

    at: int = 0


@attrs.frozen
class ShortBody(BodyEvent):
    """The body ends after so many bytes, and Content-Length agrees with that."""

    to: int = 0


@attrs.frozen
class Status(Event):
    """This status instead of an answer, with the spec's JSON or with `body` as plain text."""

    code: int = 500
    retry_after: str | int | None = None
    body: str | None = None


@attrs.frozen
class Html(Event):
    """A captive portal: a page of HTML, with a 200 unless told otherwise."""

    code: int = 200


@attrs.frozen
class Hang(Event):
    """The request is read and never answered."""


@attrs.frozen(kw_only=True)
class ExpiredUrl(Event):
    """The CDN says that the signature is too old: 403, in XML."""

    on: Kind | None = Kind.CONTENT


@attrs.frozen
class Delay(Trait):
    """The answer begins only after so many seconds."""

    seconds: float = 0.1


@attrs.frozen(kw_only=True)
class NoRange(Trait):
    """Ranges are ignored: every answer is the whole content, 200."""

    on: Kind | None = Kind.CONTENT


@attrs.frozen(kw_only=True)
class NoRedirect(Trait):
    """Blobs come from the registry itself; the request counts as one for their content."""

    on: Kind | None = Kind.BLOB


@attrs.frozen(kw_only=True)
class Chunked(Trait):
    """No Content-Length: the body comes in chunks."""


@attrs.frozen
class MissingHeaders(Trait):
    """These headers are left out."""

    names: tuple[str, ...] = ()


@attrs.frozen
class Header(Trait):
    """This header is set to this value, true or not."""

    name: str = "X-Fake"
    value: str = ""


@attrs.frozen
class HugeHeaders(Trait):
    """So many bytes of headers that mean nothing."""

    size: int = 16 * 1024


@attrs.define(eq=False)
class _Scripted:
    """A fault and for how many more requests it holds; None is without end."""

    fault: Fault
    left: int | None

    def use(self) -> None:
        if self.left is not None:
            self.left -= 1


@attrs.define(eq=False)
class Script:
    """The faults that are still to come, in order."""

    _scripted: list[_Scripted] = attrs.field(factory=list, init=False)

    def add(self, faults: Iterable[Fault]) -> None:
        """Append to the script."""
        self._scripted.extend(_Scripted(fault, fault.times) for fault in faults)

    def clear(self) -> None:
        """Forget every fault: the registry is well again."""
        self._scripted.clear()

    def is_holding(self, trait: type[Trait], kind: Kind, method: str, target: str) -> bool:
        """Whether a request would meet a trait of this class; nothing is used up."""
        return any(
            isinstance(each.fault, trait) and each.left != 0 and each.fault.is_for(kind, method, target)
            for each in self._scripted
        )

    def take(self, kind: Kind, method: str, target: str) -> tuple[Event | None, tuple[Trait, ...]]:
        """Use up and return what one request meets: the next event, and all traits."""
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
