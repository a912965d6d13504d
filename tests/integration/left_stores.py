"""Stores that a daemon has left behind, with the history of what it acknowledged, and ways to damage them."""

import contextlib
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import attrs

from tests.fakes.images import make_image
from tests.fakes.registry_process import RegistryProcess
from tests.integration.pushing import NOWHERE, Pusher
from tests.workload.checks import Violation, check, find_problems
from tests.workload.client import RandomClient, Rejected
from tests.workload.daemon import KEEP_NOTHING, DiskDaemon, hosting
from tests.workload.history import History

STEPS = 40
"""How much a client does before the daemon is restarted, before the index is copied, and afterwards."""

_SIZES, _SEED = [40_000] * 8, 9

_TO_VERSION_2 = """
DROP TRIGGER content_inserted; DROP TRIGGER content_updated; DROP TRIGGER content_deleted;
DROP TABLE content_totals; DELETE FROM meta WHERE name = 'hosted_sequence'; PRAGMA user_version = 2;
"""


@attrs.frozen
class LeftStores:
    """The folder of a daemon that was stopped, and of one that was killed, with the same history.

    `early` has the files of an index of half of that history.
    """

    folder: Path
    history: History

    @property
    def stopped(self) -> Path:
        return self.folder / "stopped"

    @property
    def killed(self) -> Path:
        return self.folder / "killed"

    @property
    def early(self) -> Path:
        return self.folder / "early"

    @classmethod
    def make(cls, folder: Path) -> "LeftStores":
        """Let a client push, mount, tag, pull and delete; return what the daemon left."""
        left = cls(folder, History(time.monotonic))
        registry = RegistryProcess.start()
        daemon = DiskDaemon(left.stopped, hosting(registry.url))
        try:
            registry.put_image(*_SIZES, seed=_SEED)
            daemon.start()
            _work(daemon, left.history, seed=1)
            daemon.stop()  # which moves everything from the log of the index into its file
            daemon.start()
            _work(daemon, left.history, seed=2)
            left.early.mkdir()
            for path in daemon.store.glob("index.sqlite*"):
                shutil.copy(path, left.early)
            _work(daemon, left.history, seed=3)
            daemon.kill()
            shutil.copytree(left.stopped, left.killed, ignore=shutil.ignore_patterns("command"))
            daemon.start()
            daemon.stop()
        finally:
            daemon.kill()
            registry.stop()
        return left

    @contextlib.contextmanager
    def copy(self, original: Path) -> Iterator[DiskDaemon]:
        """Provide a daemon with a copy of a store, which is not started yet; it evicts what it may."""
        folder = self.folder / "copy"
        shutil.copytree(original, folder, ignore=shutil.ignore_patterns("command", "log"))
        daemon = DiskDaemon(folder, hosting(NOWHERE, KEEP_NOTHING))
        try:
            yield daemon
        finally:
            daemon.kill()
            shutil.rmtree(folder)

    def problems(self, daemon: DiskDaemon, history: History | None = None) -> list[str]:
        """Start a daemon, and return what it lacks or has too much, before and after its sweeps."""

        def look(pusher: Pusher) -> list[Violation]:
            found = check(pusher, history or self.history)
            daemon.check_call("gc")
            return found + check(pusher, history or self.history)

        return find_problems(daemon, look) + daemon.bad_lines()


def _work(daemon: DiskDaemon, history: History, seed: int) -> None:
    """Push, mount, tag, pull and delete."""
    shared = [layer.content for layer in make_image(_SIZES, _SEED).layers]
    client = RandomClient(name="c", port=daemon.port, history=history, seed=seed, shared=shared)
    for _ in range(STEPS):
        with contextlib.suppress(Rejected):  # a manifest of which a blob was deleted
            client.step()


def downgrade(store: Path) -> None:
    """Turn a store into one of the version that had no journal, and no folder for hosted content."""
    with contextlib.closing(sqlite3.connect(store / "index.sqlite")) as connection:
        connection.executescript(_TO_VERSION_2)
    for path in (store / "hosted").glob("hosted.*"):
        path.unlink()
    for kind in ("blobs", "manifests"):
        for path in (store / "hosted" / kind).rglob("*"):
            if path.is_file():
                target = store / path.relative_to(store / "hosted")
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
    shutil.rmtree(store / "hosted")


def spread(moments: list[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """Return so many of the moments, in every part of the list."""
    order = random.Random(count)
    if len(moments) <= count:
        return moments
    steps = [len(moments) * number // max(count, 1) for number in range(count + 1)]
    return [moments[order.randrange(first, last)] for first, last in pairwise(steps)]


Damage = Callable[[Path], None]
"""Damages the store in a folder."""
