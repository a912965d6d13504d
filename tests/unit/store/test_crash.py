"""kill -9 at any instant: a child writes and commits blobs until it is killed; what it left is whole."""

import os
import random
import sys
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessTerminated
from twisted.internet.interfaces import IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mirrord.store.layout import partial_digest
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads
from tests.unit.store import victim

ROUNDS = 8


class Victim(ProcessProtocol):
    def __init__(self) -> None:
        self.started: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.errors = b""

    def outReceived(self, data: bytes) -> None:
        started, self.started = self.started, Deferred()
        started.callback(None)

    def errReceived(self, data: bytes) -> None:
        self.errors += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.callback(None) if reason.check(ProcessTerminated) else self.ended.errback(reason)


class CrashTests(TestCase):
    timeout = 60

    async def test_what_a_kill_leaves_is_whole(self) -> None:
        """After each kill every blob is what its name says, and every partial is resumed to its end."""
        root = Path(self.mktemp()).absolute()
        committed = resumed = 0
        for seed in range(ROUNDS):
            await self.kill_one(root, seed)
            store = open_here(root)
            committed += self.check_blobs(root, store)
            resumed += self.resume_partials(root, store)
            self.successResultOf(Deferred.fromCoroutine(store.close()))
        self.assertGreater(committed, 0)
        self.assertGreater(resumed, 0)

    async def kill_one(self, root: Path, seed: int) -> None:
        protocol = Victim()
        started = protocol.started
        arguments = [sys.executable, "-m", "tests.unit.store.victim", str(root), str(seed)]
        process: IProcessTransport = reactor.spawnProcess(  # type: ignore[attr-defined]
            protocol, sys.executable, arguments, env=dict(os.environ)
        )
        await started
        await deferLater(reactor, random.Random(seed).uniform(0.0, 0.15))  # type: ignore[arg-type]
        process.signalProcess("KILL")
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
        """Complete each one, as a later download would; the body is known from its number."""
        resumed = 0
        for path in (root / "partials").iterdir():
            digest = partial_digest(path.name)
            assert digest is not None
            body = victim.body_of(digest)
            partial = store.blobs.find_partial(digest)
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
