"""A recording of a disk, and what the disk may contain after a power cut at any place of it.

A disk keeps what it received before the last flush that it completed. Of the writes behind that flush it
may keep any part in any order: its cache writes back as it likes. Only pages of 4 KiB are written as a
whole: that is the sector of current disks, and what ext4 relies on.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.power_cut.disk import copy_disk
from tests.power_cut.recorder import RECORD

_PAGE = 4096


@attrs.frozen
class _Record:
    """The bytes from `begin` to `end` of the log, written at `offset` of the disk; without bytes, a flush."""

    offset: int
    begin: int
    end: int

    @property
    def is_flush(self) -> bool:
        return self.begin == self.end

    def pages(self) -> Iterator["_Record"]:
        """Yield the write page by page."""
        begin, offset = self.begin, self.offset
        while begin < self.end:
            size = min(_PAGE - offset % _PAGE, self.end - begin)
            yield _Record(offset, begin, begin + size)
            begin, offset = begin + size, offset + size


@attrs.frozen
class Recording:
    """A disk's content at the beginning, and the log of what was written to it."""

    image: Path
    log: Path

    @property
    def size(self) -> int:
        """The size of the log, which is the time of this disk."""
        return self.log.stat().st_size

    def cut(self, at: int, seed: int, target: Path) -> None:
        """Write to `target` what the disk may contain after a power cut when the log had the size `at`.

        The seed decides which of the writes behind the last flush are kept: none, all, or a random part.
        """
        dice = random.Random(seed)
        copy_disk(self.image, target)
        records = list(self._records(at))
        flushed = max((place for place, record in enumerate(records) if record.is_flush), default=0)
        unflushed = [page for record in records[flushed:] for page in record.pages()]
        share = dice.choice((0.0, dice.random(), dice.random(), 1.0))
        kept = [page for page in unflushed if dice.random() < share]
        if share < 1.0:
            dice.shuffle(kept)
        with self.log.open("rb") as log, target.open("r+b", buffering=0) as disk:
            for record in (*records[:flushed], *kept):
                content = os.pread(log.fileno(), record.end - record.begin, record.begin)
                os.pwrite(disk.fileno(), content, record.offset)

    def _records(self, at: int) -> Iterator[_Record]:
        """Yield the records that were complete when the log had the size `at`."""
        with self.log.open("rb") as log:
            place = 0
            while place + RECORD.size <= at:
                offset, size = RECORD.unpack(os.pread(log.fileno(), RECORD.size, place))
                begin, place = place + RECORD.size, place + RECORD.size + size
                if place <= at:
                    yield _Record(offset, begin, place)
