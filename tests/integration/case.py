"""The fixture of most integration tests: a fake registry, and daemons in front of it."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.registry_process import RegistryProcess, Stored
from tests.fakes.state import RegistryBehavior
from tests.integration.client import Pulled
from tests.integration.daemon import Daemon, Settings

MB = 1_000_000
MIB = 1024 * 1024

BIG = int(os.environ.get("MIRRORD_BLOB_MB", "64")) * MB
"""The size of a test's big blob."""


class MirrorCase(SynchronousTestCase):
    """A fake registry in its own process, and as many daemons as a test starts."""

    behavior = RegistryBehavior()
    hosts: tuple[str, str, str] = ("127.0.0.1", "127.0.0.1", "127.0.0.1")

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.registry = RegistryProcess.start(self.behavior, self.hosts)
        self.addCleanup(self.registry.stop)

    def start_daemon(self, environment: dict[str, str] | None = None, **settings: str) -> Daemon:
        """Start a daemon in front of the registry; after the test its shutdown and its log are checked."""
        configured = Settings(self.registry.url, **settings)
        daemon = Daemon(self.folder / "mirrord", configured, environment or {})
        self.addCleanup(daemon.kill)
        self.addCleanup(self.assert_clean_shutdown, daemon)
        daemon.start()
        return daemon

    def assert_clean_shutdown(self, daemon: Daemon) -> None:
        """Stop the daemon: it exits with status 0 and has logged no traceback."""
        daemon.stop()
        self.assertEqual(daemon.bad_lines(), [], daemon.log[-6000:])

    def assert_right(self, pulled: Pulled, stored: Stored) -> None:
        """Check that a client received all bytes of the content, unchanged."""
        self.assertEqual(pulled.status, 200, pulled)
        self.assertTrue(pulled.is_complete, pulled)
        self.assertEqual((pulled.size, pulled.crc32), (stored.size, stored.crc32), pulled)

    def wait_until_settled(self, daemon: Daemon) -> None:
        """Wait until everything that was pulled is stored: responses are complete before the last fsync."""
        self.wait_until(lambda: daemon.is_settled, what="the commit")

    def wait_until(self, is_true: Callable[[], bool], seconds: float = 30.0, what: str = "a change") -> None:
        """Poll until a condition is true; fail after `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_true():
            self.assertLess(time.monotonic(), deadline, f"waited {seconds} s for {what}")
            time.sleep(0.02)
