"""Backups of hosted repositories, made and restored beside a running daemon.

    <target>/
        index.sqlite                the index's tables of hosted repositories, as of one moment (copies.py)
        blobs/<alg>/ab/<hex>        all content that it links to, as in a store
        manifests/<alg>/ab/<hex>

The index is copied first, then the files that it links to and the target lacks, each hashed on the way;
only then does the new index replace the old one, and files that it no longer links to are deleted. So a
backup is complete at any moment, as of its index, and the next one copies what is new.

Both functions block, and are meant for a process of their own; they report to `report`.
"""

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.store import disk, hosted_rows
from mirrord.store.copies import copy_hosted, open_copy, restore_hosted
from mirrord.store.disk import StoreLock
from mirrord.store.layout import FILE_MODE, FOLDER_MODE, Layout
from mirrord.store.schema import connect

_CONTENT = (
    "SELECT digest, is_manifest, size, min(media_type) FROM hosted_links "
    "GROUP BY digest, is_manifest ORDER BY digest, is_manifest"
)
_PUT_CONTENT = (
    "INSERT INTO content (digest, kind, size, media_type, last_used, is_hosted) VALUES (?, ?, ?, ?, "
    "coalesce((SELECT value FROM meta WHERE name = 'service_seconds'), 0.0), 1) "
    "ON CONFLICT DO UPDATE SET size = excluded.size, is_hosted = 1"
)


class NoBackup(OSError):
    """The folder to restore from is not a backup; the message is one line for the operator."""


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
    lost: tuple[tuple[ContentKind, Digest], ...] = ()


Report = Callable[[BackupProgress], None]


def back_up(
    store: Path, target: Path, now: float, report: Report, *, may_link: bool = True
) -> BackupProgress:
    """Bring the backup in `target` up to date with the store, which may be in use; `now` is wall clock.

    If it `may_link`, content on the same file system gets a hard link: that uses no space, and does not
    protect against a failing disk. Content that is deleted meanwhile, or found damaged, is left out of the
    backup and reported as lost.

    Raises:
        OSError, sqlite3.Error: A disk failed; the backup that was in `target` before is still complete.
    """
    layout, kept = Layout(store), Layout(target)
    target.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    new = kept.index.with_name("index.sqlite.coming")
    copy_hosted(layout.index, new, now)
    progress = _transfer(layout, kept, new, report, may_link=may_link)
    with closing(sqlite3.connect(new)) as connection, connection:
        _unlink(connection, progress.lost)
    new.rename(kept.index)
    disk.sync_folder(target)
    progress = attrs.evolve(progress, removed=_remove_unlinked(kept))
    report(progress)
    return progress


def restore(source: Path, store: Path, report: Report, *, may_link: bool = True) -> BackupProgress:
    """Restore a backup into a store that no daemon uses, replacing repositories' entries of the same name.

    Content gets a hard link as in `back_up`. Everything is hashed; content that is damaged in the backup is
    left out and reported as lost.

    Raises:
        NoBackup: There is no backup in `source`.
        StoreInUse: A daemon uses the store.
        OSError, sqlite3.Error: A disk failed; what is restored so far is not linked.
    """
    kept, layout = Layout(source), Layout(store)
    if not kept.index.exists():
        raise NoBackup(f"there is no backup in {source}")
    store.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    lock = StoreLock.acquire(layout)
    try:
        progress = _transfer(kept, layout, kept.index, report, may_link=may_link, verifies_existing=True)
        with closing(connect(layout.index)) as connection:
            restore_hosted(connection, kept.index)
            _unlink(connection, progress.lost)
            _add_content(connection, kept.index, progress.lost)
    finally:
        lock.release()
    return progress


def _transfer(
    source: Layout,
    target: Layout,
    index: Path,
    report: Report,
    *,
    may_link: bool,
    verifies_existing: bool = False,
) -> BackupProgress:
    """Copy from `source` the content that `index` links to and `target` lacks, if it is whole there.

    With `verifies_existing`, content that is in `target` already is hashed too.
    """
    contents = list(_contents(index))
    progress = BackupProgress(of_entries=len(contents), of_bytes=sum(content.size for _, content in contents))
    for kind, content in contents:
        digest = content.digest
        path = target.content(kind, digest)
        is_there = _size(path) == content.size and (not verifies_existing or _is_whole(path, digest))
        is_copied = not is_there and _copy(source.content(kind, digest), path, digest, may_link=may_link)
        progress = attrs.evolve(
            progress,
            entries=progress.entries + 1,
            bytes=progress.bytes + content.size,
            copied=progress.copied + is_copied,
            lost=progress.lost if is_there or is_copied else (*progress.lost, (kind, digest)),
        )
        report(progress)
    return progress


def _unlink(connection: sqlite3.Connection, lost: Iterable[tuple[ContentKind, Digest]]) -> None:
    for kind, digest in lost:
        hosted_rows.delete_content(connection, str(digest), is_manifest=kind is ContentKind.MANIFEST)


def _add_content(
    connection: sqlite3.Connection, index: Path, lost: Iterable[tuple[ContentKind, Digest]]
) -> None:
    """Add the restored content to an index, which would otherwise have to find its files first."""
    missing = set(lost)
    rows = (
        (str(content.digest), kind, content.size, content.media_type)
        for kind, content in _contents(index)
        if (kind, content.digest) not in missing
    )
    with connection:
        connection.executemany(_PUT_CONTENT, rows)


def _contents(index: Path) -> Iterator[tuple[ContentKind, Descriptor]]:
    with closing(open_copy(index)) as connection:
        for digest, is_manifest, size, media_type in connection.execute(_CONTENT):
            kind = ContentKind.MANIFEST if is_manifest else ContentKind.BLOB
            yield kind, Descriptor(media_type, Digest.parse(digest), size)


def _copy(source: Path, path: Path, digest: Digest, *, may_link: bool) -> bool:
    """Copy or link `source` to `path`; return False if it is not whole."""
    if not _is_whole(source, digest):
        return False
    disk.make_folder(path.parent)
    coming = path.with_name(f"{path.name}.coming")
    coming.unlink(missing_ok=True)
    if not may_link or not _link(source, coming):
        coming.touch(FILE_MODE)
        shutil.copyfile(source, coming)
        if not _is_whole(coming, digest):
            coming.unlink()
            return False
    fd = os.open(coming, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.commit(fd, coming, path)
    finally:
        os.close(fd)
    return True


def _link(source: Path, path: Path) -> bool:
    """Create a hard link; return False if that is impossible, for instance on another file system."""
    try:
        path.hardlink_to(source)
    except OSError:
        return False
    return True


def _is_whole(path: Path, digest: Digest) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.encoded
    except FileNotFoundError:
        return False


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _remove_unlinked(kept: Layout) -> int:
    """Delete the files of a backup that its index does not link to; return how many."""
    linked = {kept.content(kind, content.digest) for kind, content in _contents(kept.index)}
    removed = 0
    for folder in kept.fan_outs():
        for name in disk.sizes(folder.path):
            path = folder.path / name
            is_ours = folder.digest_of(name.removesuffix(".coming")) is not None
            if is_ours and path not in linked:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
