"""History: what earlier runs recorded of hosted repositories, in snapshots and journal files."""

from collections.abc import Iterable
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
class History:
    """The journal files of a folder, as one series of records, and its snapshots.

    `records` are those that count, by sequence; `sequence` is that of the last change known to snapshots or
    journal. `damaged` are the numbers of files of which only a part can be read.
    """

    folder: Path
    records: tuple[JournalRecord, ...]
    sequence: int
    has_snapshot: bool
    damaged: tuple[int, ...]
    _last: RecordFile | None
    _number: int

    @classmethod
    def read(cls, folder: Path, *, accepts_damage: bool = False) -> "History":
        """Read the journal files of a folder; a last record that is not whole was never acknowledged.

        Raises:
            JournalDamaged: A record cannot be read that was durable once; unless it `accepts_damage`.
            OSError: The disk failed.
        """
        records: list[JournalRecord] = []
        damaged: list[int] = []
        number, file = 0, None
        for number in sorted(numbered(folder, "journal")):
            file = RecordFile.read(journal_path(folder, number))
            is_damaged = file.damage is not None or not file.records
            if is_damaged and not accepts_damage:
                raise JournalDamaged(
                    f"{journal_path(folder, number)} is damaged at byte {file.damage or 0}, before changes "
                    "of hosted repositories that can be read; put back an intact copy, or leave out what "
                    "cannot be read with `mirrord repair`"
                )
            if is_damaged:
                damaged.append(number)
            if file.records:
                header, *following = file.records
                records = [record for record in records if record.sequence <= header.sequence] + following
        last = max((record.sequence for record in records), default=0)
        if file is not None and file.records:
            last = max(last, file.records[0].sequence)
        return cls(
            folder=folder,
            records=tuple(records),
            sequence=max(last, last_snapshot_sequence(folder)),
            has_snapshot=bool(numbered(folder, "snapshot")),
            damaged=tuple(damaged),
            last=file,
            number=number,
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever recorded here."""
        return not self._number and not self.sequence

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
        if self._last is None or self.damaged or self._last_sequence() != self.sequence:
            return self.begin(self.sequence, at)
        return HostedJournal.resume(self.folder, self._number, self._last, self.sequence)

    def begin(self, sequence: int, at: float) -> HostedJournal:
        """Begin a new journal file after the change of this sequence.

        Raises:
            OSError: The disk failed.
        """
        return HostedJournal.create(self.folder, self._number + 1, sequence, at)

    def set_damaged_aside(self) -> None:
        """Give damaged files another name, once what can be read of them is recorded elsewhere."""
        for number in self.damaged:
            path = journal_path(self.folder, number)
            path.rename(path.with_name(f"{path.name}.damaged"))

    def _last_sequence(self) -> int:
        return self._last.records[-1].sequence if self._last is not None and self._last.records else 0


def _committed(records: Iterable[JournalRecord]) -> list[JournalRecord]:
    """Leave out the transactions that were aborted, and the records that abort them."""
    records = list(records)
    aborted = {record.document.get("abort") for record in records}
    return [record for record in records if record.sequence not in aborted and "facts" in record.document]
