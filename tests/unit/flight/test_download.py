"""Tests of mirrord/flight/download.py."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from mirrord.flight.download import Download


class DownloadTests(SynchronousTestCase):
    """The events that subscribers receive."""

    def setUp(self) -> None:
        self.download = Download()

    def test_size(self) -> None:
        """The size is delivered once it is known, and at once after that."""
        early = self.download.sized()
        self.assertNoResult(early)
        self.download.opened(10)

        self.assertEqual(10, self.successResultOf(early))
        self.assertEqual(10, self.successResultOf(self.download.sized()))

    def test_growth(self) -> None:
        """A waiter fires as soon as more is readable than it has."""
        self.download.opened(10)
        waiter = self.download.grown(4)
        self.download.grew(4)
        self.assertNoResult(waiter)
        self.download.grew(6)

        self.assertEqual(6, self.successResultOf(waiter))

    def test_last_byte_is_withheld(self) -> None:
        """The last byte is not readable until all bytes are verified."""
        self.download.opened(10)
        self.download.grew(10)
        end = self.download.grown(9)
        self.assertEqual(9, self.download.readable)
        self.assertNoResult(end)
        self.download.verified()

        self.assertEqual(10, self.successResultOf(end))

    def test_empty_blob(self) -> None:
        """The end of an empty blob is withheld until it is verified."""
        self.download.opened(0)
        end = self.download.grown(-1)
        self.assertNoResult(end)
        self.download.verified()

        self.assertEqual(0, self.successResultOf(end))

    def test_resumed(self) -> None:
        """The bytes of an earlier download are readable at once."""
        self.download.opened(10, written=6)

        self.assertEqual(6, self.successResultOf(self.download.grown(5)))

    def test_failure(self) -> None:
        """A failure reaches every waiter, for size or for growth, and every later one."""
        waiters = [self.download.sized(), self.download.grown(0)]
        self.download.failed(ValueError())
        waiters.append(self.download.grown(3))

        for waiter in waiters:
            self.failureResultOf(waiter, ValueError)

    def test_verified_cannot_fail(self) -> None:
        """A failure after verification, of the disk for example, withdraws no bytes."""
        self.download.opened(3)
        self.download.grew(3)
        self.download.verified()
        self.download.failed(OSError())

        self.assertEqual(3, self.successResultOf(self.download.grown(2)))

    def test_late_joiner_after_commit(self) -> None:
        """A subscriber of a committed download can read it to its end."""
        self.download.opened(3)
        self.download.grew(3)
        self.download.verified()
        self.download.committed()

        self.assertEqual(3, self.successResultOf(self.download.grown(0)))
        self.assertEqual(3, self.download.size)

    def test_reentry(self) -> None:
        """A waiter that waits again from inside its callback fires with the next growth, once."""
        delivered: list[int] = []

        def again(readable: int) -> None:
            delivered.append(readable)
            self.download.grown(readable).addCallback(again)

        self.download.opened(10)
        self.download.grown(0).addCallback(again)
        for written in (2, 5, 9):
            self.download.grew(written)

        self.assertEqual([2, 5, 9], delivered)

    def test_cancel(self) -> None:
        """A waiter that is cancelled is removed, and the others fire as before."""
        self.download.opened(10)
        cancelled, waiting = self.download.grown(0), self.download.grown(0)
        cancelled.cancel()
        self.failureResultOf(cancelled, CancelledError)
        self.download.grew(1)

        self.assertEqual(1, self.successResultOf(waiting))

    def test_cancel_while_firing(self) -> None:
        """A waiter cancelled from inside another's callback does not fire."""
        self.download.opened(10)
        waiters: list[Deferred[int]] = []
        first = self.download.grown(0)
        first.addCallback(lambda _: waiters[0].cancel())
        waiters.append(self.download.grown(0))
        self.download.grew(1)

        self.failureResultOf(waiters[0], CancelledError)

    @given(st.lists(st.integers(0, 64), max_size=20), st.integers(1, 64))
    def test_never_beyond_what_is_written(self, chunks: list[int], size: int) -> None:
        """Whatever the chunks, unwritten bytes are never readable, nor is the last one until verified."""
        download = Download()
        download.opened(size)
        written = 0
        for chunk in chunks:
            written = min(size, written + chunk)
            download.grew(written)
            self.assertLessEqual(download.readable, min(written, size - 1))
