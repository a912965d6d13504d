"""A daemon that is killed while it recovers or upgrades a store, or compacts its journal, loses nothing."""

import os
import re
import shutil
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.injection import Injection, injected, problem
from tests.integration.daemon import ROOT
from tests.integration.left_stores import Damage, LeftStores, downgrade, spread
from tests.integration.pushing import NOWHERE
from tests.workload.client import RandomClient, working
from tests.workload.daemon import DiskDaemon, hosting

MOMENTS = int(os.environ.get("MIRRORD_MOMENTS", "10"))
"""At how many moments of a recovery the daemon is killed."""

_CALLS = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,"
    "fsync,fdatasync,ftruncate,write,pwrite64"
)
_CALL = re.compile(r"^(\d+) +([a-z0-9]+)\(", re.MULTILINE)
_FREQUENT = ("write", "pwrite64")
_SECONDS = 10.0
_COMPACTING = ROOT / "tests" / "power_cut" / "hurried"


class KilledStartTests(SynchronousTestCase):
    folder: ClassVar[Path]
    left: ClassVar[LeftStores]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        cls.left = LeftStores.make(cls.folder)

    @classmethod
    def tearDownClass(cls) -> None:
        shutil.rmtree(cls.folder, ignore_errors=True)

    def setUp(self) -> None:
        missing = problem()
        if missing is not None and "CI" in os.environ:
            self.fail(f"CI has to kill: {missing}")
        if missing is not None:
            self.skipTest(missing)

    def check(self, original: Path, damage: Damage, *, is_served: bool, count: int) -> None:
        """Kill starts of a damaged store at moments before the port is open, or after, and start it again."""
        moments = self.moments(original, damage, is_served=is_served)
        self.assertGreater(len(moments), 10, "a start has few calls")
        rare = [moment for moment in moments if moment[0] not in _FREQUENT]
        frequent = [moment for moment in moments if moment[0] in _FREQUENT]
        often = 0 if is_served else count // 3  # then, most of these are on sockets and in the log
        for call, number in (*spread(rare, count - often), *spread(frequent, often)):
            with self.left.copy(original) as daemon, self.subTest(call=call, number=number):
                damage(daemon.store)
                self.assertTrue(_killed(daemon, call, number) or is_served, "the start was not killed")
                self.assertEqual([], self.left.problems(daemon), f"{call} {number}\n{_events(daemon)}")

    def moments(self, original: Path, damage: Damage, *, is_served: bool) -> list[tuple[str, int]]:
        """Return the calls of a start, each with its number among those calls of its thread, in order."""
        trace = self.folder / "trace"
        with self.left.copy(original) as daemon:
            damage(daemon.store)
            daemon.tracer = ("strace", "-f", "-o", str(trace), "-e", f"trace={_CALLS},listen")
            daemon.start()
            if is_served:
                time.sleep(2)
        before, _, after = trace.read_text().partition(" listen(")
        counts: Counter[tuple[str, str]] = Counter()
        found: dict[tuple[str, int], None] = {}
        for part, is_wanted in ((before, not is_served), (after, is_served)):
            for match in _CALL.finditer(part):
                thread, call = match[1], match[2]
                counts[thread, call] += 1
                if is_wanted:
                    found[call, counts[thread, call]] = None
        return list(found)

    def test_a_lost_index(self) -> None:
        """Killed while it makes a new index, at any call, a daemon makes it at its next start."""

        def empty(store: Path) -> None:
            (store / "index.sqlite").write_bytes(b"")

        def condemn(store: Path) -> None:
            (store / "index.sqlite.condemned").touch()

        self.check(self.left.killed, empty, is_served=False, count=-(-MOMENTS * 2 // 5))
        self.check(self.left.stopped, condemn, is_served=False, count=-(-MOMENTS * 2 // 5))

    def test_an_earlier_index(self) -> None:
        """Killed while it brings an earlier index up to date, a daemon does so at its next start."""

        def put_back(store: Path) -> None:
            (store / "index.sqlite-wal").unlink()
            shutil.copy(self.left.early / "index.sqlite", store)
            shutil.copy(self.left.early / "index.sqlite-wal", store)

        self.check(self.left.killed, put_back, is_served=False, count=-(-MOMENTS // 5))

    def test_an_upgrade(self) -> None:
        """Killed at its first start on a store of an earlier version, a daemon upgrades it at the next."""
        self.check(self.left.stopped, downgrade, is_served=False, count=-(-MOMENTS // 2))

    def test_moving_content(self) -> None:
        """Killed while it moves hosted content to its folder, a daemon goes on at its next start."""
        self.check(self.left.stopped, downgrade, is_served=True, count=-(-MOMENTS // 2))

    def test_compaction(self) -> None:
        """Killed while it compacts the journal under load, a daemon has what was acknowledged."""
        moments = [(call, number) for number in (1, 2, 4, 8, 16) for call in ("rename", "unlink", "fsync")]
        for number, (call, when) in enumerate(spread(moments, -(-MOMENTS // 5))):
            with self.left.copy(self.left.stopped) as daemon, self.subTest(call=call, number=when):
                history = self.left.history.continued(time.monotonic, time.monotonic())
                daemon.settings = hosting(NOWHERE)
                daemon.environment["PYTHONPATH"] = f"{_COMPACTING}{os.pathsep}{ROOT}"
                daemon.start()
                client = RandomClient(name=f"k{number}", port=daemon.port, history=history, seed=number)
                kill = Injection(call, "signal=KILL", when)
                with working([client]), injected(daemon.pid, kill):
                    _wait_for_the_end(daemon)
                self.assertFalse(daemon.is_alive, "the daemon was not killed")
                del daemon.environment["PYTHONPATH"]
                self.assertEqual([], self.left.problems(daemon, history), _events(daemon))


def _killing(call: str, number: int) -> tuple[str, ...]:
    """Return a command that kills a program when a thread of it makes a call the nth time."""
    injection = f"inject={call}:signal=KILL:when={number}"
    return ("strace", "-f", "-o", os.devnull, "-e", f"trace={call}", "-e", injection)


def _killed(daemon: DiskDaemon, call: str, number: int) -> bool:
    """Start a daemon that is killed at a moment; return whether it was."""
    daemon.tracer = _killing(call, number)
    try:
        daemon.start()
        _wait_for_the_end(daemon)
    except AssertionError:
        pass  # killed before it responds
    is_killed = not daemon.is_alive
    daemon.kill()
    daemon.tracer = ()
    return is_killed


def _wait_for_the_end(daemon: DiskDaemon) -> None:
    deadline = time.monotonic() + _SECONDS
    while daemon.is_alive and time.monotonic() < deadline:
        threading.Event().wait(0.02)


def _events(daemon: DiskDaemon) -> str:
    return "\n".join(line for line in daemon.log.splitlines() if " pulled " not in line)[-4000:]
