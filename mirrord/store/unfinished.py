"""Unfinished: the folder of partials. What is being written, what was left, what was promised."""

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.store.disk import Threads, read_stamp, stamp
from mirrord.store.layout import FILE_MODE, Layout, footprint
from mirrord.store.partials import PartialFile

_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_NO_TMPFILE = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL})


@attrs.frozen
class Leftover:
    """A file that nobody writes, nor has `since` then, in service time."""

    name: str
    size: int
    since: float


@attrs.define(eq=False)
class PartialStore:
    """Partials by digest, one live at a time, and damaged content that was set aside.

    `now` is service time.
    """

    _layout: Layout
    _threads: Threads
    _now: Callable[[], float]
    _committed: Callable[[PartialFile], None]
    _live: dict[Digest, PartialFile] = attrs.field(factory=dict, init=False)
    _leftovers: dict[str, Leftover] = attrs.field(factory=dict, init=False)
    _promises: dict[Digest, int] = attrs.field(factory=dict, init=False)
    _loans: dict[Digest, int] = attrs.field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        for path in self._layout.partials.iterdir():
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                since = read_stamp(path, status, self._now())
                self._leftovers[path.name] = Leftover(path.name, status.st_size, since)

    @property
    def live_bytes(self) -> int:
        """What partials that are being written take of the disk."""
        return sum(footprint(partial.offset) for partial in self._live.values() if partial.is_kept)

    @property
    def left_bytes(self) -> int:
        """What leftovers take of the disk."""
        return sum(footprint(leftover.size) for leftover in self._leftovers.values())

    @property
    def promised_bytes(self) -> int:
        """What partials that are kept were promised and have not taken yet."""
        return self._outstanding(self._promises)

    @property
    def lent_bytes(self) -> int:
        """What partials that are not kept were lent and have not taken yet."""
        return self._outstanding(self._loans)

    def leftovers(self) -> list[Leftover]:
        """What nobody writes now, the oldest first."""
        return sorted(self._leftovers.values(), key=lambda leftover: leftover.since)

    def promise(self, digest: Digest, size: int) -> None:
        """Count `size` more bytes as taken until the partial of `digest` has written them or ended.

        What the same digest was promised before is replaced; 0 takes it back.
        """
        self._reserve(self._promises, digest, size)

    def lend(self, digest: Digest, size: int) -> None:
        """The same for a partial that will not be kept."""
        self._reserve(self._loans, digest, size)

    def find(self, digest: Digest) -> PartialFile | None:
        """What an earlier download left, opened; None if there is nothing or it is in use."""
        path = self._layout.partial(digest)
        if digest in self._live or path.name not in self._leftovers:
            return None
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            del self._leftovers[path.name]
            return None
        del self._leftovers[path.name]
        return self._begin(digest, path, fd, os.fstat(fd).st_size)

    def create(self, digest: Digest, *, is_kept: bool) -> PartialFile:
        """A new, empty partial; a leftover of the same digest makes way for one that is kept.

        Raises:
            OSError: The disk refused.
            ValueError: This digest is being written already.
        """
        if digest in self._live:
            raise ValueError(f"{digest} is being written already")
        path = self._layout.partial(digest) if is_kept else None
        try:
            fd = self._open_unnamed() if path is None else os.open(path, _NEW, FILE_MODE)
        except OSError:
            self._take_back(digest)
            raise
        (self._promises if path is None else self._loans).pop(digest, None)
        if path is not None:
            self._leftovers.pop(path.name, None)
        return self._begin(digest, path, fd, 0)

    def set_aside(self, kind: ContentKind, digest: Digest, path: Path) -> None:
        """Put damaged content where nobody reads it.

        Raises:
            OSError: The disk refused.
        """
        aside = self._layout.broken(kind, digest)
        path.rename(aside)
        self._leave(aside, aside.stat().st_size)

    def take(self, name: str) -> Path | None:
        """The path of a leftover that is to be deleted; None if it is in use again or gone."""
        return None if self._leftovers.pop(name, None) is None else self._layout.partials / name

    def partial_size(self, digest: Digest) -> int | None:
        """The bytes that an unfinished download of this blob has left; None if there is none."""
        leftover = self._leftovers.get(self._layout.partial(digest).name)
        return None if leftover is None else leftover.size

    def park_all(self) -> None:
        """Park every partial that is being written."""
        for partial in list(self._live.values()):
            partial.park()

    def _begin(self, digest: Digest, path: Path | None, fd: int, offset: int) -> PartialFile:
        target = self._layout.content(ContentKind.BLOB, digest)
        partial = PartialFile(digest, path, target, offset, fd, self._threads, self._committed, self._end)
        self._live[digest] = partial
        return partial

    def _end(self, partial: PartialFile) -> None:
        del self._live[partial.digest]
        self._take_back(partial.digest)
        if partial.path is not None:
            self._leave(partial.path, partial.offset)

    def _leave(self, path: Path, size: int) -> None:
        self._leftovers[path.name] = Leftover(path.name, size, stamp(path, self._now()))

    def _reserve(self, goals: dict[Digest, int], digest: Digest, size: int) -> None:
        goals.pop(digest, None)
        if size:
            goals[digest] = self._written(digest) + size

    def _take_back(self, digest: Digest) -> None:
        self._promises.pop(digest, None)
        self._loans.pop(digest, None)

    def _outstanding(self, goals: dict[Digest, int]) -> int:
        return sum(
            max(0, footprint(goal) - footprint(self._written(digest))) for digest, goal in goals.items()
        )

    def _written(self, digest: Digest) -> int:
        partial = self._live.get(digest)
        if partial is not None:
            return partial.offset
        leftover = self._leftovers.get(self._layout.partial(digest).name)
        return 0 if leftover is None else leftover.size

    def _open_unnamed(self) -> int:
        """A file without a name on the store's file system; some kinds of those know no O_TMPFILE."""
        try:
            return os.open(self._layout.scratch, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            if error.errno not in _NO_TMPFILE:
                raise
        path = self._layout.scratch / "unnamed"
        fd = os.open(path, _NEW, FILE_MODE)
        path.unlink()
        return fd
