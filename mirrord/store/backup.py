"""Backups of hosted repositories, made and put back beside a daemon that runs.

    <target>/
        index.sqlite                what was known of hosted repositories at one moment (copies.py)
        blobs/<alg>/ab/<hex>        all that it names, as in a store
        manifests/<alg>/ab/<hex>

The index is copied first, then the files that it names and the target lacks, each hashed on its way; only
then does the new index take the place of the old one, and what no longer is in it goes. So a backup is
complete at any moment, as of its index, and the next one copies what is new.

Both functions block, and are for a process of their own; what they tell on the way goes to `tell`.
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
    """What should be restored is no backup; the message is one line for the operator."""


@attrs.frozen
class BackupProgress:
    """How far it is: entries and bytes so far, of how many; `copied` of them were not there before.

    `lost` are those that were not whole where they came from.
    """

    of_entries: int
    of_bytes: int
    entries: int = 0
    bytes: int = 0
    copied: int = 0
    removed: int = 0
    lost: tuple[tuple[ContentKind, Digest], ...] = ()


Tell = Callable[[BackupProgress], None]


@attrs.frozen
class _Content:
    kind: ContentKind
    digest: Digest
    size: int
    media_type: str


def back_up(store: Path, target: Path, now: float, tell: Tell, *, may_link: bool = True) -> BackupProgress:
    """Bring the backup in `target` up to date with the store, which may be in use; `now` is wall clock.

    On one file system content gets a second name if it `may_link`: that takes no room, and is no help
    against a disk that fails. Content that is deleted meanwhile, or found damaged, is not in the backup,
    and is told as lost.

    Raises:
        OSError, sqlite3.Error: A disk refused; what was in `target` before is complete as it was.
    """
    layout, kept = Layout(store), Layout(target)
    target.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    new = kept.index.with_name("index.sqlite.coming")
    copy_hosted(layout.index, new, now)
    progress = _bring(layout, kept, new, tell, may_link=may_link)
    with closing(sqlite3.connect(new)) as connection, connection:
        _leave_out(connection, progress.lost)
    new.rename(kept.index)
    disk.sync_folder(target)
    removed = _remove_others(kept)
    progress = attrs.evolve(progress, removed=removed)
    tell(progress)
    return progress


def restore(source: Path, store: Path, tell: Tell, *, may_link: bool = True) -> BackupProgress:
    """Put what is in a backup into a store that no daemon uses, over what that has of the same name.

    Content gets a second name as in `back_up`. Everything is hashed; what is damaged in the backup is left
    out, and told as lost.

    Raises:
        NoBackup: There is no backup in `source`.
        StoreInUse: A daemon has the store.
        OSError, sqlite3.Error: A disk refused; what is restored so far is not linked.
    """
    kept, layout = Layout(source), Layout(store)
    if not kept.index.exists():
        raise NoBackup(f"there is no backup in {source}")
    store.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
    lock = StoreLock.acquire(layout)
    try:
        progress = _bring(kept, layout, kept.index, tell, may_link=may_link, is_sceptical=True)
        with closing(connect(layout.index)) as connection:
            restore_hosted(connection, kept.index)
            _leave_out(connection, progress.lost)
            _list(connection, kept.index, progress.lost)
    finally:
        lock.release()
    return progress


def _bring(
    source: Layout, target: Layout, index: Path, tell: Tell, *, may_link: bool, is_sceptical: bool = False
) -> BackupProgress:
    """Have `target` hold whatever `index` names and `source` has whole; what it lacks is taken from it.

    Where `is_sceptical`, what is there already is hashed too.
    """
    wanted = list(_contents(index))
    progress = BackupProgress(len(wanted), sum(content.size for content in wanted))
    for content in wanted:
        kind, digest = content.kind, content.digest
        path = target.content(kind, digest)
        is_there = _size(path) == content.size and (not is_sceptical or _is_whole(path, digest))
        is_brought = not is_there and _copy(source.content(kind, digest), path, digest, may_link=may_link)
        progress = attrs.evolve(
            progress,
            entries=progress.entries + 1,
            bytes=progress.bytes + content.size,
            copied=progress.copied + is_brought,
            lost=progress.lost if is_there or is_brought else (*progress.lost, (kind, digest)),
        )
        tell(progress)
    return progress


def _leave_out(connection: sqlite3.Connection, lost: Iterable[tuple[ContentKind, Digest]]) -> None:
    for kind, digest in lost:
        hosted_rows.delete_content(connection, str(digest), is_manifest=kind is ContentKind.MANIFEST)


def _list(connection: sqlite3.Connection, index: Path, lost: Iterable[tuple[ContentKind, Digest]]) -> None:
    """Have an index know the content that is there now, whose files it would else have to find first."""
    missing = set(lost)
    there = (
        (str(content.digest), content.kind, content.size, content.media_type)
        for content in _contents(index)
        if (content.kind, content.digest) not in missing
    )
    with connection:
        connection.executemany(_PUT_CONTENT, there)


def _contents(index: Path) -> Iterator[_Content]:
    with closing(open_copy(index)) as connection:
        for digest, is_manifest, size, media_type in connection.execute(_CONTENT):
            kind = ContentKind.MANIFEST if is_manifest else ContentKind.BLOB
            yield _Content(kind, Digest.parse(digest), size, media_type)


def _copy(source: Path, path: Path, digest: Digest, *, may_link: bool) -> bool:
    """Have a copy of `source` at `path`, or the file itself under a second name; false if it is not whole."""
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
    """Give a file a second name; false where that cannot be, on another file system for instance."""
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


def _remove_others(kept: Layout) -> int:
    """Delete the files of a backup that its index does not name; how many."""
    named = {kept.content(content.kind, content.digest) for content in _contents(kept.index)}
    removed = 0
    for folder in kept.fan_outs():
        for name in disk.sizes(folder.path):
            path = folder.path / name
            is_ours = folder.digest_of(name.removesuffix(".coming")) is not None
            if is_ours and path not in named:
                path.unlink(missing_ok=True)
                removed += 1
    return removed
