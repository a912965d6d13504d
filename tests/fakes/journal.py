"""The journal of a fake registry: the requests that it received, and the bytes that it sent."""

from collections.abc import Iterable

import attrs

from tests.fakes.faults import Kind


@attrs.frozen
class RecordedRequest:
    """A request and its response so far; `bytes_sent` counts the body only."""

    method: str
    target: str
    kind: Kind
    headers: tuple[tuple[str, str], ...]
    status: int | None = None
    bytes_sent: int = 0
    is_finished: bool = False

    def header(self, name: str) -> str | None:
        """Return the first value of a header."""
        return next((value for each, value in self.headers if each == name.lower()), None)

    @property
    def has_authorization(self) -> bool:
        return self.header("authorization") is not None

    @property
    def range(self) -> str | None:
        return self.header("range")


@attrs.define(eq=False)
class JournalEntry:
    """An entry of the journal whose response is being sent."""

    request: RecordedRequest

    def answered(self, status: int) -> None:
        """Record the status."""
        self.request = attrs.evolve(self.request, status=status)

    def sent(self, count: int) -> None:
        """Record that so many more bytes of the body were sent."""
        self.request = attrs.evolve(self.request, bytes_sent=self.request.bytes_sent + count)

    def finished(self) -> None:
        """Record that the response has ended."""
        self.request = attrs.evolve(self.request, is_finished=True)


@attrs.define(eq=False)
class Journal:
    """All requests, in order of arrival."""

    _entries: list[JournalEntry] = attrs.field(factory=list, init=False)

    def open(self, request: RecordedRequest) -> JournalEntry:
        """Begin an entry."""
        entry = JournalEntry(request)
        self._entries.append(entry)
        return entry

    def extend(self, entries: Iterable[JournalEntry]) -> None:
        """Add entries of another journal."""
        self._entries.extend(entries)

    def clear(self) -> None:
        """Delete all entries; responses that are still being sent are not counted any more."""
        self._entries.clear()

    def requests(
        self, kind: Kind | None = None, method: str | None = None, match: str = ""
    ) -> tuple[RecordedRequest, ...]:
        """Return the requests of a kind and method whose target contains `match`."""
        return tuple(
            entry.request
            for entry in self._entries
            if kind in {None, entry.request.kind}
            and method in {None, entry.request.method}
            and match in entry.request.target
        )

    def bytes_sent(self, digest: str = "") -> int:
        """Return the number of bytes that were sent of a blob (default: of all blobs)."""
        return sum(request.bytes_sent for request in self.requests(Kind.CONTENT, match=digest))
