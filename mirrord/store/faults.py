"""Faults: what SQLite says, in the words of a failing disk.

A damaged page may come to light long after the index was opened. It is not mended under the feet of
those who read: the index is condemned by a file beside it, and the next start sets it aside.
"""

import contextlib
import errno
import sqlite3

import attrs
from twisted.logger import Logger

from mirrord.store.layout import FILE_MODE, Layout

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


@attrs.define(eq=False)
class Faults:
    """Translates what goes wrong with the index, and condemns one that is damaged."""

    _layout: Layout
    _log = Logger()

    def translate(self, error: Exception) -> OSError:
        """The error as callers of a disk expect it: ENOSPC or EIO."""
        if isinstance(error, OSError):
            return error
        code = primary_code(error)
        if code in _DAMAGED and not self._layout.condemned.exists():
            self._log.error("the index is damaged, restart to set it aside: {error}", error=str(error))
            with contextlib.suppress(OSError):
                self._layout.condemned.touch(FILE_MODE)
        return OSError(errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO, f"index: {error}")


def primary_code(error: Exception) -> int:
    """SQLite's result code without what extends it; 0 where the error is not SQLite's own."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
