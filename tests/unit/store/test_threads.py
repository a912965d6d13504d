import threading

from twisted.internet import reactor
from twisted.python.threadable import isInIOThread
from twisted.python.threadpool import ThreadPool
from twisted.trial.unittest import TestCase

from mirrord.store.threads import PoolThreads


class PoolThreadsTests(TestCase):
    def setUp(self) -> None:
        pool = ThreadPool(0, 1, "disk")
        pool.start()
        self.addCleanup(pool.stop)
        self.threads = PoolThreads(reactor, pool)  # type: ignore[arg-type]

    async def test_calls_are_made_in_the_pool(self) -> None:
        """A function runs in a thread of the given pool, and what it returns arrives on the reactor."""
        name = await self.threads.run(lambda: threading.current_thread().name)
        self.assertIn("disk", name)
        self.assertTrue(isInIOThread())

    async def test_errors_arrive(self) -> None:
        """What a function raises is raised where it is awaited."""
        with self.assertRaises(FileNotFoundError):
            await self.threads.run(open, "/nonexistent")
