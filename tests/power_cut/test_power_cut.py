"""Power cuts; `python -m tests.power_cut` checks hundreds (docs/testing.md)."""

import os
import shutil
import tempfile
from pathlib import Path

import attrs
from twisted.trial.unittest import SynchronousTestCase

from tests.power_cut.campaign import (
    Verdict,
    build_no_sync,
    choose_cuts,
    conditions,
    record,
    run,
    work_folder,
)
from tests.power_cut.disk import problem
from tests.power_cut.recorder import RECORD
from tests.power_cut.recording import Recording
from tests.power_cut.scenarios import Scenario, busy

STATES = int(os.environ.get("MIRRORD_POWER_CUTS", "20"))
"""The power cuts to check."""

_CONTROL_STATES = 3
_SEED = 1
_JOBS = 2


class RecordingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder)
        self.recording = Recording(folder / "image", folder / "log")
        self.recording.image.write_bytes(b"-" * 4096 * 3)
        self.target = folder / "target"

    def write(self, page: int, content: bytes) -> None:
        with self.recording.log.open("ab") as log:
            log.write(RECORD.pack(4096 * page, 4096) + content * 4096)

    def flush(self) -> None:
        with self.recording.log.open("ab") as log:
            log.write(RECORD.pack(0, 0))

    def states(self, at: int) -> set[bytes]:
        """Return what the first byte of each page may be."""
        found = set()
        for seed in range(100):
            self.recording.cut(at, seed, self.target)
            found.add(self.target.read_bytes()[::4096])
        return found

    def test_flushed_writes_are_kept(self) -> None:
        """After a power cut the disk has all that was flushed, and any part of what was written behind it."""
        self.write(0, b"a")
        self.flush()
        self.write(1, b"b")
        self.write(2, b"c")
        self.assertEqual({b"a--", b"ab-", b"a-c", b"abc"}, self.states(self.recording.size))

    def test_unflushed_writes_are_reordered(self) -> None:
        """Of two writes to a page that were not flushed, the disk may keep either."""
        self.write(0, b"a")
        self.write(0, b"b")
        self.assertEqual({b"---", b"a--", b"b--"}, self.states(self.recording.size))

    def test_later_writes_are_lost(self) -> None:
        """Nothing is on the disk that was written after the power cut, or not to its end."""
        self.write(0, b"a")
        at = self.recording.size
        self.write(1, b"b")
        self.flush()
        self.assertEqual({b"---", b"a--"}, self.states(at))
        self.assertEqual({b"---", b"a--"}, self.states(at + 100))


class PowerCutTests(SynchronousTestCase):
    def setUp(self) -> None:
        missing = problem()
        if missing is not None and "CI" in os.environ and os.geteuid() == 0:
            self.fail(f"CI has to record a disk: {missing}")
        if missing is not None:
            self.skipTest(missing)

    def test_nothing_acknowledged_is_lost(self) -> None:
        """After a power cut at any moment every acknowledged change stands, and no pushed byte is evicted."""
        with conditions(_SEED) as given, work_folder() as folder:
            scenarios = record(folder, given, STATES)
            verdicts = self.check(scenarios, STATES, folder)
        self.assertEqual([], [verdict for verdict in verdicts if verdict.problems])
        self.assertGreater(sum(verdict.certain for verdict in verdicts), 100)

    def test_without_fsync(self) -> None:
        """If fsync does nothing, acknowledged pushes are lost: these tests can see a loss."""
        if shutil.which("gcc") is None:
            self.skipTest("there is no gcc")
        with conditions(_SEED) as given, work_folder() as folder:
            preload = str(build_no_sync(folder))
            scenario = busy(folder / "busy", attrs.evolve(given, preload=preload))
            load = attrs.evolve(scenario, parts={"load": scenario.parts["load"]}, backups=())
            verdicts = self.check([load], _CONTROL_STATES, folder)
        self.assertTrue(any("nothing, and not" in str(verdict.problems) for verdict in verdicts), verdicts)

    def check(self, scenarios: list[Scenario], states: int, folder: Path) -> list[Verdict]:
        return list(run(choose_cuts(scenarios, states, _SEED), folder, _JOBS))
