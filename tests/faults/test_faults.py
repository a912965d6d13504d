"""Faults of the disk; `python -m tests.faults` injects many more (docs/testing.md)."""

import os
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.faults.campaign import Site, site, try_daemon, try_restore
from tests.faults.injection import FAILURES, KILLS, Injection, problem

SECONDS = 2.5


class FaultTests(SynchronousTestCase):
    def setUp(self) -> None:
        missing = problem()
        if missing is not None and "CI" in os.environ:
            self.fail(f"CI has to inject faults: {missing}")
        if missing is not None:
            self.skipTest(missing)
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def check_daemon(self, injections: tuple[Injection, ...]) -> None:
        with site(self.folder) as here:
            for number, injection in enumerate(injections):
                folder = self.folder / str(number)
                problems = try_daemon(Site(folder, here.upstream, here.shared), injection, SECONDS, number)
                self.assertEqual([], problems, str(injection))

    def test_failures(self) -> None:
        """Calls that fail lose nothing that was acknowledged, corrupt nothing, and the daemon recovers."""
        self.check_daemon(FAILURES)

    def test_kills(self) -> None:
        """A daemon that was killed in any of these calls has everything that was acknowledged."""
        self.check_daemon(KILLS)

    def test_restores(self) -> None:
        """A restore that failed or was killed restores everything when it is run again."""
        with site(self.folder) as here:
            for number, injection in enumerate((*KILLS[:3], *FAILURES[:1], *FAILURES[6:7])):
                folder = self.folder / str(number)
                problems = try_restore(Site(folder, here.upstream, here.shared), injection)
                self.assertEqual([], problems, str(injection))
