"""kill -9 at any instant: a child writes and commits blobs until it is killed; what it left is whole."""

import os
import random
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mirrord.oci.digest import Digest
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads
from tests.unit.store import victim

ROUNDS, MAX_ROUNDS = 8, 40


class Victim(ProcessProtocol):
    """Kills its child after it has reported so many steps."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.ended: Deferred[None] = Deferred()
        self.errors = b""

    def outReceived(self, data: bytes) -> None:
        is_due = self.steps > 0 >= self.steps - len(data)
        self.steps -= len(data)
        if is_due:
            assert self.transport is not None
            self.transport.signalProcess("KILL")

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None) if reason.check(ProcessTerminated) else self.ended.errback(reason)


class CrashTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).absolute()

    async def test_what_a_kill_leaves_is_whole(self) -> None:
        """After each kill every blob is what its name says, and every partial is resumed to its end."""
        root = self.root
        committed = resumed = 0
        for seed in range(MAX_ROUNDS):
            if seed >= ROUNDS and committed and resumed:
                break
            await self.kill_one(root, seed)
            store = open_here(root)
            committed += self.check_blobs(root, store)
            resumed += self.resume_partials(root, store)
            self.successResultOf(Deferred.fromCoroutine(store.close()))
        self.assertGreater(committed, 0)
        self.assertGreater(resumed, 0)

    async def kill_one(self, root: Path, seed: int) -> None:
        protocol = Victim(random.Random(seed).randrange(1, 150))
        arguments = [sys.executable, "-m", "tests.unit.store.victim", str(root), str(seed)]
        IReactorProcess(reactor).spawnProcess(protocol, sys.executable, arguments, env=dict(os.environ))
        await protocol.ended
        self.assertEqual(b"", protocol.errors)

    def check_blobs(self, root: Path, store: Store) -> int:
        paths = [path for path in root.glob("blobs/*/*/*") if path.is_file()]
        for path in paths:
            body = path.read_bytes()
            digest = victim.digest_of(body)
            self.assertEqual(path.name, digest.encoded)
            self.assertEqual(len(body), store.blobs.size_of(digest))
        return len(paths)

    def resume_partials(self, root: Path, store: Store) -> int:
        """Complete each one, as a later download would."""
        resumed = 0
        for path in (root / "partials").iterdir():
            digest = Digest.parse(path.name.replace("-", ":"))
            body = victim.body_of(digest)
            partial = self.successResultOf(Deferred.fromCoroutine(store.blobs.find_partial(digest)))
            assert partial is not None
            resumed += partial.offset > 0
            self.successResultOf(Deferred.fromCoroutine(partial.write(body[partial.offset :])))
            self.assertTrue(self.successResultOf(Deferred.fromCoroutine(partial.is_verified())))
            self.successResultOf(Deferred.fromCoroutine(partial.discard()))
        return resumed


def open_here(root: Path) -> Store:
    clock = Clock()
    return open_store(
        root, clock=clock, threads=InlineThreads(), monotonic=clock.seconds, wall_clock=clock.seconds
    )
