import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.store.history import History
from mirrord.store.hosted_facts import BlobLinked, Fact, ManifestLinked, Tagged, Unlinked, of_json, to_json
from mirrord.store.journal import (
    EXTENT_BYTES,
    HostedJournal,
    JournalDamaged,
    RecordFile,
    encode,
    journal_path,
)

AT = 5.0


def fact(number: int) -> Fact:
    return BlobLinked("team/app", f"sha256:{number:064x}", number, 1.5, AT)


class RecordFileTests(SynchronousTestCase):
    def content(self, count: int) -> bytes:
        return b"".join(encode(number, f'{{"at":5.0,"number":{number}}}') for number in range(1, count + 1))

    def sequences(self, file: RecordFile) -> list[int]:
        return [record.sequence for record in file.records]

    def test_records_are_read_in_order(self) -> None:
        """All records before the zeros are read, and the end is where the zeros begin."""
        content = self.content(3)
        file = RecordFile.parse(content + bytes(1000))
        self.assertEqual(([1, 2, 3], len(content), None), (self.sequences(file), file.end, file.damage))

    def test_a_last_record_that_is_not_whole_is_cut_off(self) -> None:
        """Wherever the last record ends, the ones before it are read, and nothing is reported as damaged."""
        whole, content = self.content(2), self.content(3)
        for length in range(len(whole), len(content)):
            file = RecordFile.parse(content[:length] + bytes(100))
            self.assertEqual(([1, 2], len(whole), None), (self.sequences(file), file.end, file.damage))

    def test_a_damaged_record_before_others_is_reported(self) -> None:
        """Whichever byte of a record is wrong, the records after it are found, and the place is reported."""
        content, first = self.content(3), len(self.content(1))
        for place in range(first, len(self.content(2))):
            damaged = bytearray(content)
            damaged[place] ^= 0xFF
            file = RecordFile.parse(bytes(damaged) + bytes(100))
            self.assertEqual(([1, 3], first), (self.sequences(file), file.damage), place)

    @given(st.binary(max_size=2000))
    def test_any_bytes(self, content: bytes) -> None:
        """No content makes the parser fail, and records before it are read all the same."""
        RecordFile.parse(content)
        file = RecordFile.parse(self.content(2) + content)
        self.assertEqual([1, 2], self.sequences(file)[:2])

    def test_a_record_survives(self) -> None:
        """A record is read as it was written."""
        (record,) = RecordFile.parse(encode(7, '{"at":1.25,"tag":"\\ud800"}')).records
        self.assertEqual((7, {"at": 1.25, "tag": "\ud800"}), (record.sequence, record.document))


class FactsTests(SynchronousTestCase):
    def test_facts_survive(self) -> None:
        """Facts are read from JSON as they were written."""
        facts: list[Fact] = [
            fact(1),
            ManifestLinked("team/app", "sha256:ab", "a/b", 5, 1.0, 0.1),
            Tagged("team/app", "v1", "sha256:ab", 1.0, 0.1 + 0.2),
            Unlinked("team/app", "sha256:ab", is_manifest=True),
        ]
        self.assertEqual(facts, of_json(json.loads(to_json(facts))))

    def test_unknown_facts_are_refused(self) -> None:
        """A fact of a later version is an error, not a fact that is skipped."""
        unknown: tuple[list[list[str]], ...] = ([["pin", "team/app"]], [["drop"]], [["drop", "a", "b"]], [[]])
        for arrays in unknown:
            self.assertRaises(ValueError, of_json, arrays)


class HostedJournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.journal = HostedJournal.create(self.folder, 1, 0, AT)
        self.addCleanup(self.close)

    def close(self) -> None:
        self.journal.close()

    def history(self) -> History:
        return History.read(self.folder)

    def recorded(self) -> list[Fact]:
        records = self.history().after(0)
        assert records is not None
        return [each for record in records for each in record.facts]

    def resume(self) -> None:
        self.journal.close()
        self.journal = self.history().resume(AT)

    def break_file(self) -> None:
        """Let the current file fail: its descriptor is one that cannot be written."""
        os.close(self.journal._fd)
        self.journal._fd = os.open(os.devnull, os.O_RDONLY)

    def test_what_is_appended_is_read_again(self) -> None:
        """Facts are read in the order of their transactions, across restarts and files."""
        self.assertEqual(1, self.journal.append([fact(1), fact(2)], AT))
        self.resume()
        self.assertEqual(2, self.journal.append([fact(3)], AT))
        self.assertEqual(2, self.journal.rotate(AT))
        self.assertEqual(3, self.journal.append([fact(4)], AT))
        self.assertEqual([fact(number) for number in range(1, 5)], self.recorded())
        self.assertEqual(3, self.history().sequence)

    def test_space_is_written_ahead(self) -> None:
        """An append within the space that was written ahead does not change the size of the file."""
        self.journal.append([fact(1)], AT)
        path = journal_path(self.folder, 1)
        self.assertGreaterEqual(path.stat().st_size, EXTENT_BYTES)
        size = path.stat().st_size
        for number in range(100):
            self.journal.append([fact(number)], AT)
        self.assertEqual(size, path.stat().st_size)

    def test_an_incomplete_append_is_cut_off(self) -> None:
        """A record that was being written when the power failed is gone, and its sequence is used again."""
        self.journal.append([fact(1)], AT)
        end = self.journal.size
        self.journal.append([fact(2)], AT)
        with journal_path(self.folder, 1).open("r+b") as file:
            file.seek(end + 20)
            file.write(bytes(100))
        self.resume()
        self.assertEqual([fact(1)], self.recorded())
        self.assertEqual(2, self.journal.append([fact(3)], AT))
        self.assertEqual([fact(1), fact(3)], self.recorded())

    def test_an_aborted_transaction_does_not_count(self) -> None:
        """A transaction that was appended and could not be committed is not repeated."""
        self.journal.append([fact(1)], AT)
        self.journal.abort(self.journal.append([fact(2)], AT), AT)
        self.journal.append([fact(3)], AT)
        self.assertEqual([fact(1), fact(3)], self.recorded())

    def test_after_a_failed_append_a_new_file_is_begun(self) -> None:
        """A record of which nobody knows whether it is on the disk is declared void by the next file."""
        self.journal.append([fact(1)], AT)
        self.break_file()
        self.assertRaises(OSError, self.journal.append, [fact(2)], AT)
        with journal_path(self.folder, 1).open("r+b") as file:
            content = RecordFile.parse(file.read())
            file.seek(content.end)
            file.write(encode(2, f'{{"at":5.0,"facts":{to_json([fact(2)])}}}'))
        self.assertEqual(2, self.journal.append([fact(3)], AT))
        self.assertEqual(2, self.journal.number)
        self.assertEqual([fact(1), fact(3)], self.recorded())

    def test_a_failed_abort(self) -> None:
        """If a transaction cannot be aborted in its file, the next file declares it void."""
        self.journal.append([fact(1)], AT)
        sequence = self.journal.append([fact(2)], AT)
        self.break_file()
        self.journal.abort(sequence, AT)
        self.journal.append([fact(3)], AT)
        self.assertEqual([fact(1), fact(3)], self.recorded())

    def test_a_file_whose_folder_cannot_be_synced(self) -> None:
        """Changes are never appended to a file that a later one, of which nobody knows, declares void."""
        self.journal.append([fact(1)], AT)
        with descriptors(1):
            self.assertRaises(OSError, self.journal.rotate, AT)
        self.journal.append([fact(2)], AT)
        self.assertEqual([fact(1), fact(2)], self.recorded())

    def test_a_file_that_is_ended_has_no_zeros(self) -> None:
        """A file that was ended takes no more room than its records."""
        self.journal.append([fact(1)], AT)
        size = self.journal.size
        self.journal.rotate(AT)
        self.assertEqual(size, journal_path(self.folder, 1).stat().st_size)
        self.assertEqual([fact(1)], self.recorded())

    def test_the_last_record_is_written_again(self) -> None:
        """What an earlier run could not sync may be readable and not on the disk: a start writes it again."""
        self.journal.append([fact(1)], AT)
        history, end = self.history(), self.journal.size
        with journal_path(self.folder, 1).open("r+b") as file:
            file.seek(end - 20)
            file.write(bytes(20))
        self.journal.close()
        self.journal = history.resume(AT)
        self.assertEqual([fact(1)], self.recorded())

    def test_closing_while_a_call_hangs(self) -> None:
        """The descriptor that a hanging call uses is not closed under it: it could become another file's."""
        with self.journal._lock:
            self.journal.close()
            os.fstat(self.journal._fd)
        self.journal.close()
        self.assertRaises(OSError, self.journal.append, [fact(1)], AT)

    def test_damage_is_an_error(self) -> None:
        """A damaged record with others after it is an error of one line, which names the repair."""
        for number in range(3):
            self.journal.append([fact(number)], AT)
        path = journal_path(self.folder, 1)
        content = bytearray(path.read_bytes())
        content[content.index(b"sha256:")] ^= 1
        path.write_bytes(content)
        error = self.assertRaises(JournalDamaged, self.history)
        self.assertNotIn("\n", str(error))
        self.assertIn("mirrord repair", str(error))
        history = History.read(self.folder, accepts_damage=True)
        readable = [each for record in history.readable_after(0) for each in record.facts]
        self.assertEqual([fact(1), fact(2)], readable)
        self.assertIsNone(history.after(0))

    def test_only_the_owner_may_look(self) -> None:
        """The journal is readable by the daemon's user only."""
        self.assertEqual(0, journal_path(self.folder, 1).stat().st_mode & 0o077)


@contextmanager
def descriptors(count: int) -> Iterator[None]:
    """Let the process open only so many more descriptors."""
    free = os.dup(0)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
