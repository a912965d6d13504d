"""Files are read without blocking on a disk."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mirrord.http.page_cache import PageCache
from tests.fakes.cold import evict

CONTENT = os.urandom(1 << 20)


def make_file(case: SynchronousTestCase) -> int:
    """A file of CONTENT on a disk, which can be evicted from the page cache."""
    fd, path = tempfile.mkstemp(dir=os.getcwd())  # noqa: PTH109 - /tmp may be memory
    case.addCleanup(os.unlink, path)
    os.write(fd, CONTENT)
    os.fsync(fd)
    return fd


class PagesTests(TestCase):
    def setUp(self) -> None:
        self.pool = ThreadPool(0, 2)
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.pages = PageCache(reactor, self.pool)
        self.fd = make_file(self)

    def tearDown(self) -> None:
        os.close(self.fd)

    def evicted(self, read: Callable[[], Any], warm: object) -> Any:
        """Evict the file and read it; again if the kernel had the pages back in time for the read."""
        for _ in range(100):
            evict(self.fd)
            result = read()
            if result != warm:
                break
        return result

    def test_warm(self) -> None:
        """What is in the page cache is read at once."""
        os.pread(self.fd, 100, 0)

        self.assertTrue(self.pages.has(self.fd, 99))
        self.assertEqual(CONTENT[10:99], self.pages.read(self.fd, 10, 99))

    async def test_cold(self) -> None:
        """What is not in the page cache is read by a thread."""
        self.assertFalse(self.evicted(lambda: self.pages.has(self.fd, 500_000), True))

        await self.pages.warm(self.fd, 400_000, 500_001)

        self.assertTrue(self.pages.has(self.fd, 500_000))

    async def test_cold_read(self) -> None:
        """A cold read returns later, and is right even if the caller has closed the file in the meantime."""
        reading = self.evicted(lambda: self.pages.read(self.fd, 1000, 300_000), CONTENT[1000:300_000])
        self.assertIsInstance(reading, Deferred)
        os.dup2(os.open(os.devnull, os.O_RDONLY), self.fd)

        self.assertEqual(CONTENT[1000:300_000], await reading)

    def test_beyond(self) -> None:
        """A read beyond the end of a file does not wait."""
        self.assertEqual(CONTENT[-10:], self.pages.read(self.fd, len(CONTENT) - 10, len(CONTENT) + 10))
        self.assertEqual(b"", self.pages.read(self.fd, len(CONTENT), len(CONTENT) + 10))

    def test_cannot_tell(self) -> None:
        """If the kernel does not know, the page counts as cached: blocking is better than no response."""
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)

        self.assertTrue(self.pages.has(read, 0))
