"""What the integration tests share: a registry elsewhere, a daemon, and an end without traces."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.fakes.apart import RegistryApart, Stored
from tests.fakes.scene import Manners
from tests.integration.client import Pulled
from tests.integration.daemon import Daemon, Settings

MB = 1_000_000
MIB = 1024 * 1024

BIG = int(os.environ.get("MIRRORD_BLOB_MB", "64")) * MB
"""The big blob of a test; the figures of the issue are for 200."""


class MirrorCase(SynchronousTestCase):
    """A fake registry in its own process, and as many daemons as a test starts."""

    manners = Manners()
    hosts: tuple[str, str, str] = ("127.0.0.1", "127.0.0.1", "127.0.0.1")

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.registry = RegistryApart.start(self.manners, self.hosts)
        self.addCleanup(self.registry.stop)

    def start_daemon(self, environment: dict[str, str] | None = None, **settings: str) -> Daemon:
        """A running daemon before the registry; at the end it has to stop well and to have kept calm."""
        settings_of = Settings(self.registry.url, **settings)
        daemon = Daemon(self.folder / "mirrord", settings_of, environment or {})
        self.addCleanup(daemon.kill)
        self.addCleanup(self.assert_calm, daemon)
        daemon.start()
        return daemon

    def assert_calm(self, daemon: Daemon) -> None:
        """It ends with status 0 when asked to, and nothing in its log looks like a crash."""
        daemon.stop()
        self.assertEqual(daemon.bad_lines(), [], daemon.log[-6000:])

    def assert_right(self, pulled: Pulled, stored: Stored) -> None:
        """A client has the whole of a content, and every byte of it is right."""
        self.assertEqual(pulled.status, 200, pulled)
        self.assertTrue(pulled.is_complete, pulled)
        self.assertEqual((pulled.size, pulled.crc32), (stored.size, stored.crc32), pulled)

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 10.0, what: str = "it") -> None:
        """Look again and again; fail when it takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while not is_so():
            self.assertLess(time.monotonic(), deadline, f"{what} did not come to be in {seconds} s")
            time.sleep(0.02)
