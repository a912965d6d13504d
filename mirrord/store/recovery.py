"""Recovery: from whatever an earlier run left, to a store that can be used at once.

Opening takes a time that does not grow with the bytes held: the index says what there is. What it
may have missed (kill -9 between a rename and the next batch, an index that was set aside, files
deleted by hand) is settled by `Reconciliation`, one small folder at a time beside the daemon's work;
until then a file that the index does not know is adopted when it is first asked for.
"""

import sqlite3
from collections.abc import Iterator

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.oci.digest import Digest
from mirrord.store import files
from mirrord.store.contents import Contents
from mirrord.store.layout import FanOut, Layout
from mirrord.store.tables import connect
from mirrord.store.threads import Threads

_log = Logger()

FILES_A_SLICE = 64


@attrs.frozen
class OpenIndex:
    """Two connections to the index, and the service time that it was left at."""

    reader: sqlite3.Connection
    writer: sqlite3.Connection
    service_seconds: float


def open_index(layout: Layout) -> OpenIndex:
    """Open the index, or begin one.

    An index that cannot be read is set aside and a new one begun.

    Raises:
        OSError: The disk failed.
    """
    try:
        return _open_index(layout)
    except sqlite3.OperationalError as error:
        raise OSError(f"{layout.index} cannot be opened: {error}") from error
    except sqlite3.DatabaseError as error:
        aside = _set_aside(layout)
        _log.error(
            "the index cannot be read and is now {aside}; blobs are kept, links are earned again: {error}",
            aside=aside,
            error=str(error),
        )
    return _open_index(layout)


def empty_scratch(layout: Layout) -> None:
    """Delete what was being written or deleted when an earlier run ended: one slice of a sweep at most.

    Raises:
        OSError: The disk failed.
    """
    files.unlink_all(list(layout.scratch.iterdir()))


def _open_index(layout: Layout) -> OpenIndex:
    writer = connect(layout.index)
    try:
        row = writer.execute("SELECT value FROM meta WHERE name = 'service_seconds'").fetchone()
        writer.execute("SELECT count(*), sum(size) FROM content").fetchone()
        return OpenIndex(connect(layout.index), writer, 0.0 if row is None else row[0])
    except sqlite3.Error:
        writer.close()
        raise


def _set_aside(layout: Layout) -> str:
    number = 1
    while layout.index.with_name(f"{layout.index.name}.broken-{number}").exists():
        number += 1
    aside = layout.index.with_name(f"{layout.index.name}.broken-{number}")
    layout.index.rename(aside)
    for suffix in ("-wal", "-shm"):
        layout.index.with_name(layout.index.name + suffix).unlink(missing_ok=True)
    return aside.name


@attrs.define(eq=False)
class Reconciliation:
    """Makes the index agree with the files: adopts those it does not know, drops rows without one."""

    _layout: Layout
    _contents: Contents
    _threads: Threads
    adopted: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)

    def slices(self) -> Iterator[Deferred[None] | None]:
        """The work, one small step an item: for a Cooperator.

        Raises:
            OSError: The disk failed.
        """
        for folder in self._layout.fan_outs():
            listed: dict[str, int] = {}
            yield self._threads.run(files.sizes, folder.path).addCallback(listed.update)
            yield from self._adopt(folder, listed)
            yield from self._drop(folder, listed)
        if self.adopted or self.dropped:
            _log.info(
                "the index and the files agree again: {adopted} files adopted, {dropped} rows dropped",
                adopted=self.adopted,
                dropped=self.dropped,
            )

    def _adopt(self, folder: FanOut, listed: dict[str, int]) -> Iterator[None]:
        for number, (name, size) in enumerate(listed.items()):
            digest = folder.digest_of(name)
            is_unknown = digest is not None and self._contents.get(folder.kind, digest) is None
            if digest is not None and is_unknown and (folder.path / name).exists():
                self._contents.add(folder.kind, digest, size)
                self.adopted += 1
            if number % FILES_A_SLICE == 0:
                yield

    def _drop(self, folder: FanOut, listed: dict[str, int]) -> Iterator[None]:
        for number, row in enumerate(self._contents.under(folder.kind, folder.prefix)):
            digest = Digest.parse(row.digest)
            if digest.encoded not in listed and not (folder.path / digest.encoded).exists():
                self.dropped += self._contents.drop(folder.kind, digest)
            if number % FILES_A_SLICE == 0:
                yield
