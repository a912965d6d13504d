"""The journal: every request that a fake registry saw, and what it sent."""

from collections.abc import Iterable

import attrs

from tests.fakes.faults import Kind


@attrs.frozen
class Seen:
    """A request as it was seen, and its answer so far; `bytes_sent` counts the body only."""

    method: str
    target: str
    kind: Kind
    headers: tuple[tuple[str, str], ...]
    status: int | None = None
    bytes_sent: int = 0
    is_finished: bool = False

    def header(self, name: str) -> str | None:
        """The first value of a header."""
        return next((value for each, value in self.headers if each == name.lower()), None)

    @property
    def has_authorization(self) -> bool:
        return self.header("authorization") is not None

    @property
    def range(self) -> str | None:
        return self.header("range")


@attrs.define(eq=False)
class Entry:
    """A line of the journal that is still being written."""

    seen: Seen

    def answered(self, status: int) -> None:
        """The answer's status is known."""
        self.seen = attrs.evolve(self.seen, status=status)

    def sent(self, count: int) -> None:
        """So many more bytes of the body were written."""
        self.seen = attrs.evolve(self.seen, bytes_sent=self.seen.bytes_sent + count)

    def finished(self) -> None:
        """Nothing more will be sent."""
        self.seen = attrs.evolve(self.seen, is_finished=True)


@attrs.define(eq=False)
class Journal:
    """All requests, in order of arrival."""

    _entries: list[Entry] = attrs.field(factory=list, init=False)

    def open(self, seen: Seen) -> Entry:
        """Begin a line."""
        entry = Entry(seen)
        self._entries.append(entry)
        return entry

    def extend(self, entries: Iterable[Entry]) -> None:
        """Add lines that were written elsewhere."""
        self._entries.extend(entries)

    def clear(self) -> None:
        """Begin a new page; requests that are still answered are no longer counted."""
        self._entries.clear()

    def requests(
        self, kind: Kind | None = None, method: str | None = None, match: str = ""
    ) -> tuple[Seen, ...]:
        """The requests of a kind and method whose target contains `match`."""
        return tuple(
            entry.seen
            for entry in self._entries
            if kind in {None, entry.seen.kind}
            and method in {None, entry.seen.method}
            and match in entry.seen.target
        )

    def bytes_sent(self, digest: str = "") -> int:
        """How many bytes of a blob's content (default: of all blobs) were sent so far."""
        return sum(seen.bytes_sent for seen in self.requests(Kind.CONTENT, match=digest))
