"""Tests of mirrord/tap.py, in a process of their own."""

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

_COUNT_FROZEN = """
import gc, sys
from twisted.internet import reactor
from mirrord.tap import Options, makeService
options = Options()
options.parseOptions(["--store", sys.argv[1]])
makeService(options)
reactor.callWhenRunning(lambda: (print(gc.get_freeze_count()), reactor.stop()))
reactor.run()
"""


class HeapTests(SynchronousTestCase):
    def test_frozen(self) -> None:
        """Objects of the start are exempt from garbage collection, which would stall the reactor."""
        command = [sys.executable, "-c", _COUNT_FROZEN, self.mktemp()]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.assertGreater(int(printed.split()[-1]), 10_000)
