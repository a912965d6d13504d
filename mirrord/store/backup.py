"""Backups of hosted repositories, made and restored beside a running daemon.

    <target>/
        hosted.snapshot-<n>         what hosted repositories had at one moment (snapshots.py): a generation
        backup.lock                 locked by the process that writes to it
        blobs/<alg>/ab/<hex>        all content that the generations name, as in a store
        manifests/<alg>/ab/<hex>

A snapshot is taken first, then the files are copied that it names and the target lacks, each hashed on the
way; only then does it become the newest generation. So a backup is complete at any moment, as of that, and
the next one copies what is new. Some generations are kept, with their content: what was deleted by mistake
can be restored. A backup that would have far less than the last one is refused: from here, that is how the
loss of a store looks.

The functions block, and are meant for a process of their own; they report to `report`. Their memory does not
depend on the number of entries. `as_reader` are the rights to open files of the folder that is read
(copying.py); what SQLite or a parser would open there by name is copied first.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from io import BufferedReader
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store import disk
from mirrord.store.copying import Rights, copy_file, is_whole, link_file, matches, open_file
from mirrord.store.disk import StoreLock
from mirrord.store.hosted_facts import BlobLinked, Fact, ManifestLinked, Tagged
from mirrord.store.layout import FILE_MODE, FOLDER_MODE, ContentFolder, Layout
from mirrord.store.recovery import merge_facts, open_index, read_earlier_backup
from mirrord.store.schema import transaction
from mirrord.store.snapshots import (
    Snapshot,
    numbered_snapshots,
    open_snapshots,
    snapshot_path,
    write_snapshot,
)

GENERATIONS = 7

_EARLIER = "index.sqlite"
"""The file with the facts in a backup of an earlier version, which has one generation."""

_LARGE_FILES = "/var/tmp"  # noqa: S108 - for private folders: a disk, where /tmp may be memory

_TEMPORARY = """
CREATE TABLE content (digest TEXT NOT NULL, is_manifest INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (digest, is_manifest)) WITHOUT ROWID
"""
_PUT_CONTENT = (
    "INSERT INTO content (digest, kind, size, media_type, last_used, is_hosted) VALUES (?, ?, ?, '', "
    "coalesce((SELECT value FROM meta WHERE name = 'service_seconds'), 0.0), 1) "
    "ON CONFLICT DO UPDATE SET size = excluded.size, is_hosted = 1"
)

Content = tuple[ContentKind, Digest]


class NoBackup(OSError):
    """The folder to restore from is not a backup; the message is one line for the operator."""


class BackupRunning(OSError):
    """Another process writes to this backup; the message is one line for the operator."""


class BackupShrinks(Exception):
    """The store has far less than the last backup; the message is one line for the operator."""


@attrs.frozen(kw_only=True)
class BackupProgress:
    """Progress: entries and bytes so far, of how many; `copied` of them were not there before.

    `lost` are those that were damaged or missing in the source.
    """

    of_entries: int
    of_bytes: int
    entries: int = 0
    bytes: int = 0
    copied: int = 0
    removed: int = 0
    lost: tuple[Content, ...] = ()


Report = Callable[[BackupProgress], None]


def back_up(
    layout: Layout,
    target: Path,
    report: Report,
    *,
    may_link: bool = True,
    prunes: bool = False,
    as_reader: Rights = nullcontext,
) -> BackupProgress:
    """Add a generation to the backup in `target`, of the store as it is now; a daemon may use it.

    If it `may_link`, content on the same file system gets a hard link: that uses no space, and does not
    protect against a failing disk. Content that is deleted meanwhile, or found damaged, is left out of the
    backup and reported as lost. If it `prunes`, earlier generations are deleted, whatever they have.

    Raises:
        BackupShrinks: The store has less than half of what the last generation has.
        BackupRunning: Another backup to `target` is running.
        OSError, sqlite3.Error: A disk failed; the generations that were in `target` before are complete.
    """
    with as_reader():
        if layout.condemned.exists():
            raise OSError(f"{layout.index} is damaged; start the daemon, which rebuilds it")
    target.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    with _locked(target):
        return _back_up(layout, target, report, may_link=may_link, prunes=prunes, as_reader=as_reader)


def _back_up(
    layout: Layout, target: Path, report: Report, *, may_link: bool, prunes: bool, as_reader: Rights
) -> BackupProgress:
    last = _last_facts(target)
    number = max(numbered_snapshots(target), default=0) + 1
    coming = target / "coming"
    with ExitStack() as stack:
        stack.callback(coming.unlink, missing_ok=True)
        with _snapshot_of(layout.index, as_reader) as taken:
            _write(taken, coming)
        snapshot = Snapshot.open(coming, number)
        if snapshot is None:
            raise OSError(f"{coming} cannot be read again")
        contents = stack.enter_context(closing(ContentSet()))
        contents.add(snapshot.facts())
        if last is not None and not prunes:
            _refuse_to_shrink(contents, last)
        transfer = _Transfer(
            sources=(layout.hosted, layout.mirrored),
            target=ContentFolder(target),
            report=report,
            may_link=may_link,
            as_reader=as_reader,
        )
        progress = transfer.run(contents)
        coming.rename(snapshot_path(target, number))
    disk.sync_folder(target)
    (target / _EARLIER).unlink(missing_ok=True)
    kept = 1 if prunes else GENERATIONS
    disk.unlink_all([snapshot_path(target, each) for each in sorted(numbered_snapshots(target))[:-kept]])
    progress = attrs.evolve(progress, removed=_remove_unnamed(target))
    report(progress)
    return progress


def restore(
    source: Path, layout: Layout, report: Report, *, may_link: bool = True, as_reader: Rights = nullcontext
) -> BackupProgress:
    """Restore the last generation into a store that no daemon uses, replacing tags of the same name.

    The store is recovered first (recovery.py). Content gets a hard link as in `back_up`. Everything is
    hashed; content that is damaged in the backup is left out and reported as lost.

    Raises:
        NoBackup: There is no backup in `source`.
        StoreInUse: A daemon uses the store.
        OSError, sqlite3.Error: A disk failed; what is restored so far is not linked.
    """
    with TemporaryDirectory(dir=_LARGE_FILES) as folder:
        generation = _Generation.newest(source, Path(folder), as_reader)
        return _restore(source, generation, layout, report, may_link=may_link, as_reader=as_reader)


def _restore(
    source: Path,
    generation: "_Generation",
    layout: Layout,
    report: Report,
    *,
    may_link: bool,
    as_reader: Rights,
) -> BackupProgress:
    for folder in (layout.root, layout.hosted_root, layout.hosted.scratch):
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    lock = StoreLock.acquire(layout)
    try:
        opened = open_index(layout)
        with closing(opened.journal), closing(opened.reader), closing(opened.writer):
            with closing(ContentSet()) as contents:
                contents.add(generation.facts())
                transfer = _Transfer(
                    sources=(ContentFolder(source),),
                    target=layout.hosted,
                    report=report,
                    may_link=may_link,
                    as_reader=as_reader,
                    verifies_existing=True,
                )
                progress = transfer.run(contents)
                lost = frozenset(progress.lost)
                rows = (row for row in contents if row[:2] not in lost)
                with transaction(opened.writer):
                    opened.writer.executemany(_PUT_CONTENT, ((str(row[1]), row[0], row[2]) for row in rows))
            shift = opened.service_seconds - generation.at
            merge_facts(layout, opened, _restored(generation.facts(), lost, shift))
    finally:
        lock.release()
    return progress


@attrs.frozen
class _Generation:
    """A generation of a backup: its facts, which each call reads again, and their service time."""

    facts: Callable[[], Iterator[list[Fact]]]
    at: float

    @classmethod
    def newest(cls, source: Path, folder: Path, as_reader: Rights) -> "_Generation":
        """Return the newest generation of a backup, which an earlier version may have made.

        It is read from a copy in `folder`.
        """
        with as_reader():
            numbers = sorted(numbered_snapshots(source), reverse=True)
        for number in numbers:
            copy = _copy_of(snapshot_path(source, number), folder, as_reader)
            snapshot = None if copy is None else Snapshot.open(copy, number)
            if snapshot is not None:
                return cls(snapshot.facts, snapshot.at)
        copy = _copy_of(source / _EARLIER, folder, as_reader)
        found = None if copy is None else read_earlier_backup(copy)
        if found is None:
            raise NoBackup(f"there is no backup in {source}")
        facts, at = found
        return cls(lambda: iter([facts]), at)


class ContentSet:
    """The content that facts name, each once, in order of digest; on disk, so that memory stays flat."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = OFF")  # three times as fast, and nothing to recover
        self._connection.execute(_TEMPORARY)

    def add(self, pages: Iterable[Iterable[Fact]]) -> None:
        """Add the content that facts link to repositories."""
        for facts in pages:
            rows = [
                (fact.digest, isinstance(fact, ManifestLinked), fact.size)
                for fact in facts
                if isinstance(fact, BlobLinked | ManifestLinked)
            ]
            self._connection.execute("BEGIN")
            self._connection.executemany("INSERT OR IGNORE INTO content VALUES (?, ?, ?)", rows)
            self._connection.execute("COMMIT")

    def totals(self) -> tuple[int, int]:
        """Return the number of entries, and of their bytes."""
        ((count, size),) = self._connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM content")
        return count, size

    def __iter__(self) -> Iterator[tuple[ContentKind, Digest, int]]:
        for digest, is_manifest, size in self._connection.execute("SELECT * FROM content"):
            yield ContentKind.MANIFEST if is_manifest else ContentKind.BLOB, Digest.parse(digest), size

    def __contains__(self, content: Content) -> bool:
        kind, digest = content
        sql = "SELECT 1 FROM content WHERE digest = ? AND is_manifest = ?"
        parameters = str(digest), kind is ContentKind.MANIFEST
        return self._connection.execute(sql, parameters).fetchone() is not None

    def close(self) -> None:
        """Delete the set."""
        self._connection.close()


@attrs.frozen(kw_only=True)
class _Transfer:
    """Copies the content that a target lacks, if it is whole in one of the sources.

    With `verifies_existing`, content that is in the target already is hashed too.
    """

    _sources: tuple[ContentFolder, ...]
    _target: ContentFolder
    _report: Report
    _may_link: bool
    _as_reader: Rights
    _verifies_existing: bool = False

    def run(self, contents: ContentSet) -> BackupProgress:
        """Copy, and return the totals."""
        of_entries, of_bytes = contents.totals()
        entries = count = copied = 0
        lost: list[Content] = []
        progress = BackupProgress(of_entries=of_entries, of_bytes=of_bytes)
        for kind, digest, size in contents:
            is_there = self._is_there(kind, digest, size)
            is_copied = not is_there and any(self._copy(source, kind, digest) for source in self._sources)
            if not is_there and not is_copied:
                lost.append((kind, digest))
            entries, count, copied = entries + 1, count + size, copied + is_copied
            progress = BackupProgress(
                of_entries=of_entries, of_bytes=of_bytes, entries=entries, bytes=count, copied=copied
            )
            self._report(progress)
        return attrs.evolve(progress, lost=tuple(lost))

    def _is_there(self, kind: ContentKind, digest: Digest, size: int) -> bool:
        path = self._target.path(kind, digest)
        try:
            return path.stat().st_size == size and (not self._verifies_existing or is_whole(path, digest))
        except FileNotFoundError:
            return False

    def _copy(self, source: ContentFolder, kind: ContentKind, digest: Digest) -> bool:
        origin, path = source.path(kind, digest), self._target.path(kind, digest)
        coming = path.with_name(f"{path.name}.coming")
        file = open_file(origin, self._as_reader)
        if file is None:
            return False
        with file:
            if not self._may_link:
                return copy_file(file, path, digest, coming)
            if not matches(file, digest):
                return False
            if link_file(file, origin, path, coming):
                return True
            file.seek(0)
            return copy_file(file, path, digest, coming)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Lock a backup: of two processes that write to it, each would delete what the other copies."""
    fd = os.open(target / "backup.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BackupRunning(f"another backup to {target} is running") from None
        yield
    finally:
        os.close(fd)


def _snapshot_of(index: Path, as_reader: Rights) -> BufferedReader:
    """Return a snapshot of an index, as an open file without a name."""
    with as_reader(), TemporaryDirectory(dir=_LARGE_FILES) as folder:
        path = Path(folder, "snapshot")
        write_snapshot(index, path)
        return path.open("rb")


def _copy_of(source: Path, folder: Path, as_reader: Rights) -> Path | None:
    """Return the path of a copy of a file in `folder`; None if there is no such file."""
    file = open_file(source, as_reader)
    if file is None:
        return None
    copy = folder / source.name
    with file:
        _write(file, copy)
    return copy


def _write(source: BufferedReader, path: Path) -> None:
    """Write a file with the content of another; what is at `path` is replaced, not followed."""
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with os.fdopen(fd, "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fsync(fd)


def _last_facts(target: Path) -> Iterable[Iterable[Fact]] | None:
    """Return the facts of the newest generation, which an earlier version may have made; None without any."""
    snapshot = next(open_snapshots(target), None)
    if snapshot is not None:
        return snapshot.facts()
    found = read_earlier_backup(target / _EARLIER)
    return None if found is None else [found[0]]


def _refuse_to_shrink(contents: ContentSet, last: Iterable[Iterable[Fact]]) -> None:
    with closing(ContentSet()) as before:
        before.add(last)
        (count, size), (count_before, size_before) = contents.totals(), before.totals()
    if 2 * count < count_before or 2 * size < size_before:
        raise BackupShrinks(
            f"the store has {count} blobs and manifests of hosted repositories ({size} bytes), and the last "
            f"backup {count_before} ({size_before} bytes); nothing was changed"
        )


def _restored(
    pages: Iterable[Iterable[Fact]], lost: frozenset[Content], shift: float
) -> Iterator[list[Fact]]:
    """Return facts without what is lost, their service times moved by `shift`."""
    for facts in pages:
        yield [
            fact._replace(touched=fact.touched + shift)
            for fact in facts
            if isinstance(fact, BlobLinked | ManifestLinked | Tagged) and _content_of(fact) not in lost
        ]


def _content_of(fact: BlobLinked | ManifestLinked | Tagged) -> Content:
    is_blob = isinstance(fact, BlobLinked)
    return ContentKind.BLOB if is_blob else ContentKind.MANIFEST, Digest.parse(fact.digest)


def _remove_unnamed(target: Path) -> int:
    """Delete the files of a backup that no generation names; return how many."""
    removed = 0
    with closing(ContentSet()) as named:
        for snapshot in open_snapshots(target):
            named.add(snapshot.facts())
        for folder in ContentFolder(target).fan_outs():
            for name in disk.sizes(folder.path):
                digest = folder.digest_of(name.removesuffix(".coming"))
                is_named = digest is not None and (folder.kind, digest) in named
                if digest is not None and (not is_named or name.endswith(".coming")):
                    (folder.path / name).unlink(missing_ok=True)
                    removed += 1
    return removed
