"""History: what earlier runs recorded of hosted repositories, in snapshots and journal files."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import attrs

from mirrord.store.journal import (
    HostedJournal,
    JournalDamaged,
    JournalRecord,
    RecordFile,
    journal_path,
    numbered,
)
from mirrord.store.snapshots import Snapshot, last_snapshot_sequence, open_snapshots


@attrs.frozen(kw_only=True)
class DamagedJournal:
    """A journal file of which only a part can be read, if any.

    `lost` are the sequences of the changes that cannot, in ranges. `lost_after` is set if it is unknown
    where the file ended: changes after that one may be lost too.
    """

    path: Path
    lost: tuple[range, ...]
    lost_after: int | None

    @property
    def aside(self) -> Path:
        """The path to which the file is moved."""
        return self.path.with_name(f"{self.path.name}.damaged")

    def without(self, sequence: int) -> "DamagedJournal":
        """Return what is lost if the changes up to this one are recorded elsewhere."""
        later = (range(max(each.start, sequence + 1), each.stop) for each in self.lost)
        is_recorded = self.lost_after is None or self.lost_after < sequence
        return attrs.evolve(
            self, lost=tuple(filter(None, later)), lost_after=None if is_recorded else self.lost_after
        )


@attrs.frozen(kw_only=True)
class History:
    """The journal files of a folder, as one series of records, and its snapshots.

    `records` are those that count, by sequence; `sequence` is that of the last change known to snapshots or
    journal. `next_number` is that of the next snapshot and journal file.
    """

    folder: Path
    records: tuple[JournalRecord, ...]
    sequence: int
    has_snapshot: bool
    next_number: int
    damaged: tuple[DamagedJournal, ...]
    _last: RecordFile | None
    _number: int

    @classmethod
    def read(cls, folder: Path, *, accepts_damage: bool = False) -> "History":
        """Read the journal files of a folder; a last record that is not whole was never acknowledged.

        Raises:
            JournalDamaged: A record cannot be read that was durable once; unless it `accepts_damage`.
            OSError: The disk failed.
        """
        files = {
            number: RecordFile.read(journal_path(folder, number))
            for number in sorted(numbered(folder, "journal"))
        }
        if not accepts_damage:
            _require_whole(folder, files)
        records: list[JournalRecord] = []
        last = 0
        for file in files.values():
            if file.records:
                records = [record for record in records if record.sequence <= file.begins_after]
                records += file.changes
                last = max(file.begins_after, records[-1].sequence if records else 0)
        sequence = max(last, last_snapshot_sequence(folder))
        number, snapshots = max(files, default=0), numbered(folder, "snapshot")
        return cls(
            folder=folder,
            records=tuple(records),
            sequence=sequence,
            has_snapshot=bool(snapshots),
            next_number=max(number, *snapshots, 0) + 1,
            damaged=tuple(_damaged(folder, files, sequence)),
            last=files.get(number),
            number=number,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever recorded here."""
        return self.next_number == 1

    def after(self, sequence: int) -> list[JournalRecord] | None:
        """Return the transactions after a change; None if the journal does not have all of them."""
        later = [record for record in self.records if record.sequence > sequence]
        expected = range(sequence + 1, self.sequence + 1)
        if [record.sequence for record in later] != list(expected):
            return None
        return _committed(later)

    def readable_after(self, sequence: int) -> list[JournalRecord]:
        """Return those transactions after a change that can be read."""
        return _committed(record for record in self.records if record.sequence > sequence)

    def snapshot(self) -> Snapshot | None:
        """Return the newest snapshot that is whole."""
        return next(open_snapshots(self.folder), None)

    def resume(self, at: float) -> HostedJournal:
        """Open the journal to continue after the last record; `at` is service time.

        Raises:
            OSError: The disk failed.
        """
        is_last = self._number + 1 == self.next_number and self._last_sequence() == self.sequence
        if self._last is None or self.damaged or not is_last:
            return self.begin(self.sequence, at)
        return HostedJournal.resume(self.folder, self._number, self._last, self.sequence)

    def begin(self, sequence: int, at: float) -> HostedJournal:
        """Begin a new journal file after the change of this sequence.

        Raises:
            OSError: The disk failed.
        """
        return HostedJournal.create(self.folder, self.next_number, sequence, at)

    def set_damaged_aside(self, recorded: int) -> tuple[DamagedJournal, ...]:
        """Give damaged files another name, once what can be read of them is recorded elsewhere.

        Return them, with what is lost if the changes up to `recorded` are.

        Raises:
            OSError: The disk failed.
        """
        for damaged in self.damaged:
            damaged.path.rename(damaged.aside)
        return tuple(damaged.without(recorded) for damaged in self.damaged)

    def _last_sequence(self) -> int:
        return self._last.records[-1].sequence if self._last is not None and self._last.records else 0


def _committed(records: Iterable[JournalRecord]) -> list[JournalRecord]:
    """Leave out the transactions that were aborted, and the records that abort them."""
    records = list(records)
    aborted = {record.document.get("abort") for record in records}
    return [record for record in records if record.sequence not in aborted and "facts" in record.document]


def _require_whole(folder: Path, files: Mapping[int, RecordFile]) -> None:
    """Raise JournalDamaged if there is a file that is not."""
    for number, file in files.items():
        if file.is_damaged:
            raise JournalDamaged(
                f"{journal_path(folder, number)} is damaged at byte {file.damage or 0}: changes of hosted "
                "repositories cannot be read; restore an intact copy, or run `mirrord repair`, which leaves "
                "out what nothing else records"
            )


def _damaged(folder: Path, files: Mapping[int, RecordFile], sequence: int) -> Iterator[DamagedJournal]:
    """Iterate over the damaged files; `sequence` is that of the last change that is known."""
    last = 0
    for number, file in files.items():
        begins_after = file.begins_after if file.records else last
        if file.damage == 0:
            begins_after = min(begins_after, last)
        changes = [change.sequence for change in file.changes]
        if file.is_damaged:
            later = (files[each] for each in files if each > number)
            ends_with = next((one.begins_after for one in later if one.records), None)
            end = sequence if ends_with is None else ends_with
            known = (begins_after, *(each for each in changes if each <= end), end + 1)
            yield DamagedJournal(
                path=journal_path(folder, number),
                lost=tuple(range(one + 1, other) for one, other in pairwise(known) if one + 1 < other),
                lost_after=end if ends_with is None and not file.records else None,
            )
        last = max(begins_after, *changes) if changes else begins_after
