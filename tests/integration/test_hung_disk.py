import json
import os
import shutil
import signal
import subprocess
import time

from tests.integration.case import MIB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon, Settings

HANG_SECONDS = 300
"""Longer than any deadline of the daemon."""

DRAIN_SECONDS = 3
EXIT_SECONDS = 1
"""Between the line in the log and the exit."""

EXITING = "exiting before everything is stopped"

COLD_PULLS = 6
"""More than there are threads for fsyncs."""


class HungFsyncTests(MirrorCase):
    """strace delays every fsync of the daemon."""

    def setUp(self) -> None:
        super().setUp()
        if shutil.which("strace") is None:
            self.skipTest("there is no strace")
        if subprocess.run(["strace", "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
            self.skipTest("strace may not trace here")
        configured = Settings(self.registry.url, drain_timeout=f"{DRAIN_SECONDS}s")
        self.daemon = Daemon(self.folder / "mirrord", configured)
        self.addCleanup(self.daemon.kill)
        self.daemon.start()

    def hang(self) -> "subprocess.Popen[str]":
        """Let every fsync of the daemon hang from now on, until the returned tracer is killed."""
        calls = "fsync,fdatasync"
        delay = f"inject={calls}:delay_enter={HANG_SECONDS}s"
        tracer = subprocess.Popen(
            [
                "strace",
                "-f",
                "-p",
                str(self.daemon.pid),
                "-o",
                os.devnull,
                "-e",
                f"trace={calls}",
                "-e",
                delay,
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(tracer.wait)
        self.addCleanup(tracer.kill)
        assert tracer.stderr is not None
        self.addCleanup(tracer.stderr.close)
        self.assertIn("attached", tracer.stderr.readline())
        return tracer

    def readiness(self) -> tuple[int, str]:
        """Return the status of /readyz, and what it says about the store."""
        answer = pull(f"{self.daemon.admin_url}/readyz")
        return answer.status, json.loads(answer.body)["checks"]["store"]

    def test_hung_fsyncs(self) -> None:
        """Hits and cold pulls are served, /readyz names the problem, and SIGTERM ends the daemon in time."""
        hit, *cold = [self.registry.put_image(MIB, seed=n, tag=f"t{n}") for n in range(COLD_PULLS + 1)]
        for url in (self.daemon.manifest("t0"), self.daemon.blob(hit.layer.digest)):
            self.assertEqual(200, pull(url).status)
        self.wait_until_settled(self.daemon)
        tracer = self.hang()

        for number, image in enumerate(cold, 1):
            for url, stored in (
                (self.daemon.manifest(f"t{number}"), image.manifest),
                (self.daemon.blob(image.layer.digest), image.layer),
            ):
                pulled = pull(url)
                self.assert_right(pulled, stored)
                self.assertLess(pulled.seconds, 25)
                self.assert_right(pull(url), stored)
            self.assertEqual("mirrord; hit", pull(self.daemon.blob(hit.layer.digest)).cache_status)

        self.wait_until(lambda: self.readiness()[0] == 503, 60, "/readyz to fail")
        self.assertRegex(self.readiness()[1], "the disk has not completed an? .* in [3-9][0-9] s")
        self.assertEqual("mirrord; hit", pull(self.daemon.blob(hit.layer.digest)).cache_status)

        os.kill(self.daemon.pid, signal.SIGTERM)
        self.wait_until(lambda: EXITING in self.daemon.log, DRAIN_SECONDS + 10, "the exit")
        time.sleep(EXIT_SECONDS)
        tracer.kill()  # it keeps a process whose calls it delays from ending
        self.wait_until(lambda: not self.daemon.is_alive, 10, "the end of the process")
        self.assertEqual(1, self.daemon.status)
        self.assertRegex(self.daemon.log, f"{EXITING}: the disk has not completed")
        self.assertEqual([], self.daemon.bad_lines())
