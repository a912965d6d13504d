"""The rights with which root's commands touch files that another user controls.

The service's user may have been taken over, and what it controls with it: in a store, any name can be a
symbolic link to a file that only root may read or write. Looking before opening does not help, since a name
can change in between, and SQLite opens its files by name. So root does not enter such a folder: it acts with
the rights of the user who controls it, for good or for a while, and the kernel refuses everything else.
"""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import attrs

_ROOT = 0
_MAX_LINKS = 40
"""As in the kernel (path_resolution(7))."""


@attrs.frozen
class Owner:
    """The user who controls a folder, with a group: the primary one of that user."""

    uid: int
    gid: int

    @classmethod
    def of(cls, *folders: Path) -> Self:
        """Return the user who controls folders, or who would if they existed.

        That is their owner. If that is root, it is a user who owns a folder or a symbolic link on the way to
        one of them, and so could replace it; root itself if there is none.
        """
        found = [each for folder in folders for each in reversed(list(_walk(folder.absolute())))]
        status = next((each for each in found if each.st_uid != _ROOT), found[0])
        return cls.user(status.st_uid, status.st_gid)

    @classmethod
    def user(cls, uid: int, gid: int) -> Self:
        """Return a user; `gid` is the group if the user is not known to this host."""
        try:
            return cls(uid, pwd.getpwuid(uid).pw_gid)
        except KeyError:
            return cls(uid, gid)

    def become(self) -> None:
        """Give up root's rights for good and act as this user, from the root folder; nothing unless root.

        A module that is imported later must be readable by this user.
        """
        if os.getuid() == _ROOT and self.uid != _ROOT:
            os.chdir("/")
            os.setgroups([])
            os.setgid(self.gid)
            os.setuid(self.uid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Act as this user within a `with` statement, which may be nested; nothing unless run by root."""
        if os.getuid() != _ROOT or self.uid == os.geteuid():
            yield
            return
        before = (os.geteuid(), os.getegid(), os.getgroups())
        _assume(self.uid, self.gid, [])
        try:
            yield
        finally:
            _assume(*before)


def _assume(uid: int, gid: int, groups: list[int]) -> None:
    os.seteuid(_ROOT)
    os.setgroups(groups)
    os.setegid(gid)
    os.seteuid(uid)


def _walk(path: Path, links: int = 0) -> Iterator[os.stat_result]:
    """Yield the status of every folder and symbolic link on the way to a path, as far as it exists.

    Raises:
        OSError: There are too many links, or they are not to be read.
    """
    if links > _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    for folder in reversed((path, *path.parents)):
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return
        yield status
        if stat.S_ISLNK(status.st_mode):
            yield from _walk(folder.parent / folder.readlink(), links + 1)
