"""The journal of hosted repositories: each change is on the disk here before the index commits it.

Hosted repositories exist nowhere else, and an SQLite file is one bad page away from being unreadable. So the
facts of each transaction (hosted_facts.py) are first appended to a journal, then committed to the index with
the sequence number of their record. A push waits for one fdatasync, that of the journal: the index itself
is not synced, because what a power cut takes from it is replayed from here. Recovery (recovery.py) compares
the sequence numbers of index, snapshots and journal at every start.

A journal file is a series of records:

    sequence (8 bytes) | length (4) | JSON (length) | CRC-32 of all of these (4)

The first record is the header of the file. Its sequence is that of the last change before the file: records
of earlier files with a higher one are void. Each following record is one transaction of the index, with the
next sequence. The rest of the file, as long as it is appended to, is zeros, written ahead so that an append
changes no metadata of the file system. There is one record per transaction and each is durable before the
next one is written. That makes the two ways in which a file can end badly distinguishable: an incomplete
record with nothing after it was being written when the power failed, and was never acknowledged; one with
complete records after it was durable once, and has been damaged since.

- *An append fails.* Whether the record is on the disk is unknown then, so the file is abandoned: the next
  append begins a new file, whose header declares the record void. Until that succeeds nothing is appended.
- *A new file cannot be synced.* It may be there after a power cut, and its header would declare void what is
  appended to the current file meanwhile. So that is abandoned too.
- *The commit that follows an append fails*, on a full disk for instance. A record that aborts it is
  appended, in space that exists already.

CRC-32 is zlib's, not CRC-32C, which would need a compiled dependency; it detects the same classes of error
in records of this size (ADR 0016).
"""

import contextlib
import errno
import json
import os
import re
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from mirrord.store import disk, hosted_facts
from mirrord.store.hosted_facts import Fact
from mirrord.store.layout import FILE_MODE

EXTENT_BYTES = 256 * 1024
"""How far ahead a file is filled with zeros: a thousand pushes."""

_HEAD = struct.Struct(">QI")
_CRC = struct.Struct(">I")
_JSON_START = b'{"at":'
"""Every record's JSON begins so; what follows a damaged record is found by it."""

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""More than any transaction has; a damaged length must not be read into memory."""

_NUMBER = re.compile(r"hosted\.[a-z]+-([1-9][0-9]{0,17})", re.ASCII)
_APPEND = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


class JournalDamaged(OSError):
    """Records of the journal that were durable cannot be read; the message is one line for the operator."""


@attrs.frozen
class JournalRecord:
    """A record: its sequence number, and its JSON document, which is parsed when it is needed."""

    sequence: int
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """The document."""
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def at(self) -> float:
        """The service time at which it was written."""
        return float(self.document["at"])

    @property
    def facts(self) -> list[Fact]:
        """The facts of its transaction.

        Raises:
            ValueError: A later version wrote it.
        """
        return hosted_facts.of_json(self.document.get("facts", ()))


def encode(sequence: int, document: str) -> bytes:
    """Return the bytes of a record whose JSON document is serialized already, beginning with `at`."""
    return _pack(sequence, document.encode("ascii"))


def _pack(sequence: int, body: bytes) -> bytes:
    record = _HEAD.pack(sequence, len(body)) + body
    return record + _CRC.pack(zlib.crc32(record))


@attrs.frozen
class RecordFile:
    """The records of a file, in order; the first is its header.

    `end` is the offset after the last one. `damage` is where a record was that cannot be read, although
    later ones can: those are in `records` too.
    """

    records: tuple[JournalRecord, ...]
    end: int
    damage: int | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether records cannot be read that were durable once."""
        return self.damage is not None or not self.records

    @property
    def changes(self) -> tuple[JournalRecord, ...]:
        """The records after the header."""
        return self.records if self.damage == 0 else self.records[1:]

    @property
    def begins_after(self) -> int:
        """The sequence of the last change before the file, or before the first one that can be read."""
        return self.records[0].sequence - (1 if self.damage == 0 else 0)

    @classmethod
    def parse(cls, content: bytes) -> "RecordFile":
        """Parse the content of a file; whatever the bytes are, this raises nothing."""
        records: list[JournalRecord] = []
        end, damage, found = 0, None, _record_at(content, 0)
        while True:
            while found is not None:
                record, end = found
                records.append(record)
                found = _record_at(content, end)
            found = next(_later_records(content, end), None)
            if found is None:
                return cls(tuple(records), end, damage)
            damage = end if damage is None else damage

    @classmethod
    def read(cls, path: Path) -> "RecordFile":
        """Read a file; raises OSError if that fails."""
        return cls.parse(path.read_bytes())


def _record_at(content: bytes, offset: int) -> tuple[JournalRecord, int] | None:
    """Return the record at an offset, and the offset after it; None if there is no whole one."""
    start = offset + _HEAD.size
    if len(content) < start + _CRC.size:
        return None
    sequence, length = _HEAD.unpack_from(content, offset)
    stop = start + length
    if len(content) < stop + _CRC.size or not content.startswith(_JSON_START, start):
        return None
    if _CRC.unpack_from(content, stop)[0] != zlib.crc32(memoryview(content)[offset:stop]):
        return None
    return JournalRecord(sequence, content[start:stop]), stop + _CRC.size


def _later_records(content: bytes, offset: int) -> Iterator[tuple[JournalRecord, int]]:
    """Iterate over what are whole records at any offset after this one."""
    for match in re.finditer(re.escape(_JSON_START), content[offset:]):
        start = offset + match.start() - _HEAD.size
        if start > offset and (found := _record_at(content, start)) is not None:
            yield found


@attrs.define(eq=False)
class HostedJournal:
    """The journal file that is being written. Its calls block; any thread may make them.

    `sequence` is that of the last change, `number` that of the file, `size` the bytes of its records;
    `has_records` besides its header.
    """

    _folder: Path
    number: int
    sequence: int
    size: int
    _fd: int
    _allocated: int
    has_records: bool = attrs.field(default=False, init=False)
    _is_abandoned: bool = attrs.field(default=False, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    @classmethod
    def create(cls, folder: Path, number: int, sequence: int, at: float) -> "HostedJournal":
        """Begin the file of this number, after the change of this sequence, at this service time.

        Raises:
            OSError: The disk failed.
        """
        path = journal_path(folder, number)
        new = path.with_name(f"{path.name}.new")
        header = encode(sequence, f'{{"at":{at!r},"journal":{number}}}')
        fd = os.open(new, _APPEND | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        try:
            disk.write_at(fd, 0, header)
            disk.commit(fd, new, path)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        return cls(folder, number, sequence, len(header), fd, len(header))

    @classmethod
    def resume(cls, folder: Path, number: int, file: RecordFile, sequence: int) -> "HostedJournal":
        """Open an existing file to append after its last whole record; what follows that is cut off.

        The last record is written again: if an earlier run could not sync it, the kernel may have it in
        memory only, and would not write it of its own accord.

        Raises:
            OSError: The disk failed.
        """
        fd = os.open(journal_path(folder, number), _APPEND)
        try:
            os.ftruncate(fd, file.end)
            last = _pack(file.records[-1].sequence, file.records[-1].body)
            disk.write_at(fd, file.end - len(last), last)
            os.fsync(fd)
        except OSError:
            os.close(fd)
            raise
        journal = cls(folder, number, sequence, file.end, fd, file.end)
        journal.has_records = len(file.records) > 1
        return journal

    def append(self, facts: Sequence[Fact], at: float) -> int:
        """Append the facts of a transaction; return its sequence, once it is on the disk.

        Raises:
            OSError: The disk failed, and the transaction must not be committed.
        """
        return self._append(f'{{"at":{at!r},"facts":{hosted_facts.to_json(facts)}}}', at)

    def abort(self, sequence: int, at: float) -> None:
        """Declare a transaction void that was appended last and then could not be committed.

        If the disk refuses that too, it is declared void by the next file, before anything else is appended.
        """
        try:
            self._append(f'{{"at":{at!r},"abort":{sequence}}}', at)
        except OSError:
            self._is_abandoned, self.sequence = True, sequence - 1

    def rotate(self, at: float) -> int:
        """Begin the next file, and return its number; the old one stays until it is pruned.

        Raises:
            OSError: The disk failed; the current file is in use as before, or is abandoned.
        """
        with self._lock:
            self._rotate(at)
            return self.number

    def close(self) -> None:
        """Close the file, unless a call that hangs uses it; may be called more than once."""
        if not self._lock.acquire(blocking=False):
            return
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._lock.release()

    def _append(self, document: str, at: float) -> int:
        with self._lock:
            if self._is_abandoned:
                self._rotate(at)
            record = encode(self.sequence + 1, document)
            self._allocate(self.size + len(record))
            try:
                disk.write_at(self._fd, self.size, record)
                os.fdatasync(self._fd)
            except OSError as error:
                self._is_abandoned = True
                raise OSError(error.errno or errno.EIO, f"journal: {error.strerror}") from error
            self.sequence += 1
            self.size += len(record)
            self.has_records = True
            return self.sequence

    def _rotate(self, at: float) -> None:
        try:
            following = HostedJournal.create(self._folder, self.number + 1, self.sequence, at)
        except OSError:
            # If it has its name already, its header declares void what would be appended here.
            self._is_abandoned |= journal_path(self._folder, self.number + 1).exists()
            raise
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.size)
        os.close(self._fd)
        self._fd, self.number = following._fd, following.number
        self.size, self._allocated = following.size, following._allocated
        self.has_records = self._is_abandoned = False

    def _allocate(self, size: int) -> None:
        """Fill the file with zeros up to `size` and beyond; a failure leaves it as it was."""
        while self._allocated < size:
            disk.append(self._fd, self._allocated, bytes(EXTENT_BYTES))
            self._allocated += EXTENT_BYTES


def read_records(path: Path) -> Iterator[JournalRecord]:
    """Iterate over the records of a file of any size, to the first that is not whole.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            _, length = _HEAD.unpack(head)
            found = _record_at(head + file.read(min(length, MAX_RECORD_BYTES) + _CRC.size), 0)
            if found is None:
                return
            yield found[0]


def journal_path(folder: Path, number: int) -> Path:
    """Return the path of a journal file."""
    return folder / f"hosted.journal-{number}"


def numbered(folder: Path, word: str) -> list[int]:
    """Return the numbers of the files `hosted.<word>-<number>` of a folder."""
    names = (path.name for path in folder.glob(f"hosted.{word}-*"))
    return [int(match[1]) for name in names if (match := _NUMBER.fullmatch(name)) is not None]
