"""Recovery: open whatever an earlier run left, as a store that can be used at once.

The time to open does not grow with the bytes stored: the index lists them. What it may lack (after a
kill -9 between a rename and the next batch, an index that was set aside, files deleted by hand) is
corrected by `Reconciliation`, one small folder at a time while the daemon serves; until then a file that
the index lacks is adopted when it is first requested.

A new index gets its tables of hosted repositories from the last copy of the old one (copies.py).
"""

import contextlib
import sqlite3
from collections.abc import Iterator

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.contents import TOTALS, Contents
from mirrord.store.copies import copied_at, restore_hosted
from mirrord.store.database import primary_code
from mirrord.store.hosted_index import HostedIndex
from mirrord.store.hosted_rows import CHECKS as HOSTED_CHECKS
from mirrord.store.layout import FanOut, Layout
from mirrord.store.schema import CONTENT, LINKS, TAGS, connect
from mirrord.store.threads import Threads

_log = Logger()

FILES_A_SLICE = 64


@attrs.frozen
class OpenIndex:
    """Two connections to the index, and the service time at which the last run left it."""

    reader: sqlite3.Connection
    writer: sqlite3.Connection
    service_seconds: float


def open_index(layout: Layout, now: float) -> OpenIndex:
    """Open the index, or create one; `now` is wall clock.

    One that cannot be read, or was found damaged by an earlier run, is set aside and a new one created.

    Raises:
        OSError: The disk failed.
    """
    if layout.condemned.exists():
        _set_aside(layout, "an earlier run found it damaged")
    try:
        return _open_or_set_aside(layout, now) or _open_index(layout, now)
    except sqlite3.Error as error:
        raise OSError(f"{layout.index} cannot be opened: {error}") from error


def _open_or_set_aside(layout: Layout, now: float) -> OpenIndex | None:
    try:
        return _open_index(layout, now)
    except sqlite3.DatabaseError as error:
        is_incomplete = primary_code(error) == sqlite3.SQLITE_ERROR
        if isinstance(error, sqlite3.OperationalError) and not is_incomplete:
            raise
        _set_aside(layout, str(error))
    return None


def _open_index(layout: Layout, now: float) -> OpenIndex:
    is_new = not layout.index.exists()
    writer = connect(layout.index)
    try:
        if is_new and layout.copy.exists():
            _restore(writer, layout, now)
        row = writer.execute("SELECT value FROM meta WHERE name = 'service_seconds'").fetchone()
        for sql in (TOTALS, CONTENT.check, LINKS.check, TAGS.check, *HOSTED_CHECKS):
            writer.execute(sql).fetchall()
        return OpenIndex(connect(layout.index), writer, 0.0 if row is None else row[0])
    except sqlite3.Error:
        writer.close()
        raise


def _restore(connection: sqlite3.Connection, layout: Layout, now: float) -> None:
    """Restore hosted repositories from the copy into a new index."""
    try:
        age_seconds = max(0.0, now - copied_at(layout.copy))
        count = restore_hosted(connection, layout.copy)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and primary_code(error) != sqlite3.SQLITE_ERROR:
            raise
        _log.error(
            "hosted repositories are lost: the copy of the index cannot be read: {error}", error=str(error)
        )
        return
    _log.warn(
        "hosted repositories restored from a copy made {minutes:.0f} minutes ago: {count} links",
        minutes=age_seconds / 60,
        count=count,
    )


def _set_aside(layout: Layout, reason: str) -> None:
    """Rename the index. Its log is deleted first: it must never be read as that of a new one."""
    index, number = layout.index, 1
    while (aside := index.with_name(f"{index.name}.broken-{number}")).exists():
        number += 1
    for suffix in ("-wal", "-shm"):
        index.with_name(index.name + suffix).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        index.rename(aside)
    layout.condemned.unlink(missing_ok=True)
    _log.error(
        "index set aside as {aside}; blobs are kept, repository links will be re-verified with the "
        "upstream: {reason}",
        aside=aside.name,
        reason=reason,
    )


@attrs.define(eq=False, kw_only=True)
class Reconciliation:
    """Makes the index agree with the files: adopts files that it lacks, drops rows without a file.

    What hosted repositories link to and the disk lacks stays linked: pushing it again repairs it, and until
    then it is not served.
    """

    _layout: Layout
    _contents: Contents
    _hosted: HostedIndex
    _threads: Threads
    adopted: int = attrs.field(default=0, init=False)
    dropped: int = attrs.field(default=0, init=False)

    def slices(self) -> Iterator[Deferred[None] | None]:
        """Iterate over the work in small steps, for a Cooperator.

        Raises:
            OSError: The disk failed.
        """
        for folder in self._layout.fan_outs():
            listed: dict[str, int] = {}
            yield self._threads.read(disk.sizes, folder.path).addCallback(listed.update)
            yield from self._adopt(folder, listed)
            yield from self._drop(folder, listed)
        yield from self._report_lost()
        if self.adopted or self.dropped:
            _log.info(
                "index reconciled with the files: {adopted} files added, {dropped} rows removed",
                adopted=self.adopted,
                dropped=self.dropped,
            )

    def _adopt(self, folder: FanOut, listed: dict[str, int]) -> Iterator[None]:
        for number, (name, size) in enumerate(listed.items()):
            digest = folder.digest_of(name)
            if digest is not None and self._is_lacking(folder.kind, digest) and (folder.path / name).exists():
                self._contents.add(folder.kind, digest, size)
                self.adopted += 1
            if number % FILES_A_SLICE == 0:
                yield

    def _is_lacking(self, kind: ContentKind, digest: Digest) -> bool:
        is_unknown = self._contents.get(kind, digest) is None
        return is_unknown and not self._contents.removals.is_running(kind, digest)

    def _drop(self, folder: FanOut, listed: dict[str, int]) -> Iterator[None]:
        for page in self._contents.with_prefix(folder.kind, folder.prefix):
            for row in page:
                digest = Digest.parse(row.digest)
                if digest.encoded not in listed and not (folder.path / digest.encoded).exists():
                    self.dropped += self._contents.drop(folder.kind, digest)
            yield

    def _report_lost(self) -> Iterator[None]:
        for lost in self._hosted.lost():
            for repository, kind, digest in lost:
                _log.error(
                    "hosted repository {repository} has lost a {kind}; push it again: {digest}",
                    repository=str(repository),
                    kind=str(kind),
                    digest=str(digest),
                )
            yield
