"""Stamps: since when nobody writes an unfinished file, in service time, as its mtime.

There a restart finds it, and no row has to be kept in step with the file. A file whose writer was killed
has an mtime of the wall clock, which may say 1970 as well: it differs from the atime, or is ahead of
service time, and of such a file it counts from now on. So no clock that is wrong, or is set right, takes
anybody's download or upload away.
"""

import contextlib
import os
from pathlib import Path


def stamp(path: Path, now: float) -> float:
    """Nobody writes this file from `now` on, which is returned."""
    with contextlib.suppress(OSError):
        os.utime(path, (now, now))
    return now


def read_stamp(path: Path, status: os.stat_result, now: float) -> float:
    """Since when nobody writes a file of this `status`: stamped anew if that is not known."""
    is_stamped = status.st_atime_ns == status.st_mtime_ns and status.st_mtime <= now
    return status.st_mtime if is_stamped else stamp(path, now)
