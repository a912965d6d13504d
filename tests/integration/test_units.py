"""The units as systemd-analyze sees them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.systemd_units import Installation, service_unit, template
from tests.integration.daemon import ROOT

SERVICE = ROOT / "systemd" / "mirrord.service"


def analyze(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *words], capture_output=True, text=True, timeout=60, check=False
    )


@skipIf(shutil.which("systemd-analyze") is None, "systemd-analyze is not installed")
class UnitTests(SynchronousTestCase):
    def test_security(self) -> None:
        """The exposure level of the unit is 2.0 at most."""
        output = analyze("security", "--offline=true", str(SERVICE)).stdout
        (level,) = re.findall(r"Overall exposure level for mirrord.service: ([\d.]+)", output)
        self.assertLessEqual(float(level), 2.0, output)

    def test_verify(self) -> None:
        """The units as they are installed cause no warning."""
        with TemporaryDirectory() as folder:
            here = Installation(Path(sys.prefix), Path(sys.executable).parent, Path(sys.base_prefix))
            units = {"mirrord.service": service_unit(here), "mirrord.socket": template("mirrord.socket")}
            for name, text in units.items():
                Path(folder, name).write_text(text)
            done = analyze("verify", *(str(Path(folder, name)) for name in units))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))


class LimitTests(SynchronousTestCase):
    def test_limits(self) -> None:
        """A leak or a flood of threads ends the service, and not the host."""
        text = SERVICE.read_text()
        self.assertIn("\nMemoryMax=75%\n", text)
        self.assertIn("\nTasksMax=64\n", text)


class TimeTests(SynchronousTestCase):
    def test_a_drain_is_not_cut_short(self) -> None:
        """The unit waits longer for the exit than a drain takes with the default settings."""
        (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", SERVICE.read_text(), re.MULTILINE)
        self.assertGreaterEqual(int(seconds), 60)

    def test_tls_needs_writable_code(self) -> None:
        """MemoryDenyWriteExecute stays off, because every handshake fails with it."""
        self.assertNotIn("\nMemoryDenyWriteExecute=", SERVICE.read_text())
