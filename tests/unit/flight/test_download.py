"""Tests of mirrord/flight/download.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.download import Download


class DownloadTests(SynchronousTestCase):
    """What subscribers are told, and when."""

    def setUp(self) -> None:
        self.download = Download()

    def test_size(self) -> None:
        """Who asks for the size waits until it is known, who asks later gets it at once."""
        early = self.download.sized()
        self.assertNoResult(early)
        self.download.opened(10)

        self.assertEqual(10, self.successResultOf(early))
        self.assertEqual(10, self.successResultOf(self.download.sized()))

    def test_growth(self) -> None:
        """A waiter hears of growth as soon as there is more than it has."""
        self.download.opened(10)
        waiter = self.download.grown(4)
        self.download.grew(4)
        self.assertNoResult(waiter)
        self.download.grew(6)

        self.assertEqual(6, self.successResultOf(waiter))

    def test_last_byte_is_held_back(self) -> None:
        """The last byte cannot be read until all is verified."""
        self.download.opened(10)
        self.download.grew(10)
        end = self.download.grown(9)
        self.assertEqual(9, self.download.readable)
        self.assertNoResult(end)
        self.download.verified()

        self.assertEqual(10, self.successResultOf(end))

    def test_empty_blob(self) -> None:
        """The end of an empty blob is not told before it is verified."""
        self.download.opened(0)
        end = self.download.grown(-1)
        self.assertNoResult(end)
        self.download.verified()

        self.assertEqual(0, self.successResultOf(end))

    def test_resumed(self) -> None:
        """What an earlier try left can be read at once."""
        self.download.opened(10, written=6)

        self.assertEqual(6, self.successResultOf(self.download.grown(5)))

    def test_failure(self) -> None:
        """Every waiter, of size or of growth, learns of a failure, and so does who comes later."""
        waiters = [self.download.sized(), self.download.grown(0)]
        self.download.failed(ValueError())
        waiters.append(self.download.grown(3))

        for waiter in waiters:
            self.failureResultOf(waiter, ValueError)

    def test_verified_cannot_fail(self) -> None:
        """A failure after the digest agreed, of the disk for one, takes no byte back from anybody."""
        self.download.opened(3)
        self.download.grew(3)
        self.download.verified()
        self.download.failed(OSError())

        self.assertEqual(3, self.successResultOf(self.download.grown(2)))

    def test_late_joiner_after_commit(self) -> None:
        """Who still holds a committed download reads it to its end."""
        self.download.opened(3)
        self.download.grew(3)
        self.download.verified()
        self.download.committed()

        self.assertEqual(3, self.successResultOf(self.download.grown(0)))
        self.assertEqual(3, self.download.size)

    def test_reentry(self) -> None:
        """A waiter that waits again from inside its callback is told of the next growth, once."""
        seen: list[int] = []

        def again(readable: int) -> None:
            seen.append(readable)
            self.download.grown(readable).addCallback(again)

        self.download.opened(10)
        self.download.grown(0).addCallback(again)
        for written in (2, 5, 9):
            self.download.grew(written)

        self.assertEqual([2, 5, 9], seen)

    def test_leaving(self) -> None:
        """A waiter that cancels is forgotten, and the others are told as before."""
        self.download.opened(10)
        leaver, stayer = self.download.grown(0), self.download.grown(0)
        leaver.cancel()
        self.failureResultOf(leaver, CancelledError)
        self.download.grew(1)

        self.assertEqual(1, self.successResultOf(stayer))

    def test_leaving_while_others_are_told(self) -> None:
        """A waiter cancelled from inside another's callback hears nothing more."""
        self.download.opened(10)
        waiters: list[Deferred[int]] = []
        first = self.download.grown(0)
        first.addCallback(lambda _: waiters[0].cancel())
        waiters.append(self.download.grown(0))
        self.download.grew(1)

        self.failureResultOf(waiters[0], CancelledError)

    @given(st.lists(st.integers(0, 64), max_size=20), st.integers(1, 64))
    def test_never_beyond_what_is_written(self, chunks: list[int], size: int) -> None:
        """Whatever the chunks, nobody is told of unwritten bytes, nor of the last unverified one."""
        download = Download()
        download.opened(size)
        written = 0
        for chunk in chunks:
            written = min(size, written + chunk)
            download.grew(written)
            self.assertLessEqual(download.readable, min(written, size - 1))
