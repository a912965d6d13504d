"""The wheel and the checkout: their content, and the plugin through which twistd finds the daemon."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]

LOAD_TAC = """
from twisted.persisted.sob import loadValueFromFile
from twisted.application.service import IServiceCollection
application = loadValueFromFile("mirrord.tac", "application")
print(len(list(IServiceCollection(application))))
"""


def run(*command: str, cwd: Path, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def script(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


class PackagingCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class WheelTests(PackagingCase):
    def setUp(self) -> None:
        super().setUp()
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(self.folder), cwd=ROOT)
        (wheel,) = self.folder.glob("*.whl")
        self.site = self.folder / "site"
        with ZipFile(wheel) as archive:
            self.names = archive.namelist()
            archive.extractall(self.site)

    def test_wheel(self) -> None:
        """The wheel contains the package and the plugin, shadows nothing of Twisted, and twistd finds it."""
        self.assertIn("mirrord/tap.py", self.names)
        self.assertIn("mirrord/py.typed", self.names)
        shadow = [name for name in self.names if name.startswith("twisted/")]
        self.assertEqual(shadow, ["twisted/plugins/mirrord_plugin.py"])
        self.assertEqual(
            {name.partition("/")[0].partition("-")[0] for name in self.names}, {"mirrord", "twisted"}
        )
        (entry_points,) = self.site.glob("*.dist-info/entry_points.txt")
        self.assertIn("mirrord = mirrord.cli.main:main", entry_points.read_text())
        usage = run(script("twistd"), "--help", cwd=self.folder, environment={"PYTHONPATH": str(self.site)})
        self.assertRegex(usage, r"\n    mirrord +A container registry mirror\n")

    def test_units(self) -> None:
        """`mirrord install-service` of the wheel writes the units and configuration of the checkout."""
        code = "from mirrord.cli.main import main; main(['install-service', '--dry-run', '--socket'])"
        environment = {"PYTHONPATH": str(self.site)}
        output = run(sys.executable, "-c", code, cwd=self.folder, environment=environment)
        for name in ("mirrord.socket", "mirrord.sysusers"):
            self.assertIn((ROOT / "systemd" / name).read_text(), output)
        for line in ("WatchdogSec=30", "[[listen]]", "==> /etc/mirrord/mirrord.toml"):
            self.assertIn(f"\n{line}\n", output)


class ConstraintTests(SynchronousTestCase):
    """`constraints.txt`, which SECURITY.md describes how to update."""

    def required(self, requirements: Iterable[str], extras: Iterable[str] = ("",)) -> Iterator[Requirement]:
        """Yield requirements, and those of the packages that satisfy them."""
        for requirement in map(Requirement, requirements):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                yield requirement
                requires = distribution(requirement.name).requires or ()
                yield from self.required(requires, requirement.extras or ("",))

    def test_pins(self) -> None:
        """Every dependency, direct or not, is pinned with hashes to a version that is allowed."""
        entries = re.split(r"^(?=\w)", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)[1:]
        pins = {}
        for entry in entries:
            name, version = entry.split()[0].split("==")
            self.assertRegex(entry, r"--hash=sha256:[0-9a-f]{64}\b")
            pins[name] = version
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        for requirement in self.required(project["dependencies"]):
            name = re.sub(r"[._-]+", "-", requirement.name).lower()
            self.assertIn(pins.get(name, "0"), requirement.specifier, name)


class CheckoutTests(PackagingCase):
    def test_plugin(self) -> None:
        """Twistd finds mirrord and its options in the checkout."""
        self.assertRegex(
            run(script("twistd"), "--help", cwd=ROOT), r"\n    mirrord +A container registry mirror\n"
        )
        usage = run(script("twistd"), "--nodaemon", "--pidfile=", "mirrord", "--help", cwd=ROOT)
        for option in ("--config=", "--check", "--listen=", "--upstream=", "--store=", "--admin="):
            self.assertIn(option, usage)

    def test_tac(self) -> None:
        """`mirrord.tac` creates an application with one service."""
        environment = {"PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        self.assertEqual(run(sys.executable, "-c", LOAD_TAC, cwd=ROOT, environment=environment), "1\n")

    def test_command(self) -> None:
        """`mirrord run` is equivalent to `twistd mirrord` with the same options."""
        environment = {"PYTHONPATH": str(ROOT), "HOME": str(self.folder)}
        code = "from mirrord.cli.main import main; main()"
        output = run(
            sys.executable,
            "-c",
            code,
            "run",
            "--check",
            "--store",
            "/srv/x",
            cwd=ROOT,
            environment=environment,
        )
        self.assertIn('[store]\npath = "/srv/x"\n', output)
        self.assertIn("  run ", run(sys.executable, "-c", code, "--help", cwd=ROOT, environment=environment))

    def test_check(self) -> None:
        """With an invalid configuration `--check` exits with status 1 and prints one line per error."""
        bad = self.folder / "bad.toml"
        bad.write_text('drain_timeout = 5\n[store]\npath = ""\n')
        done = subprocess.run(
            [script("twistd"), "--nodaemon", "--pidfile=", "mirrord", "--check", "--config", str(bad)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertEqual(
            (done.stdout + done.stderr).splitlines(),
            [
                "mirrord: store.path: must be a path",
                'mirrord: drain_timeout: must be a string such as "5m", not a number',
            ],
        )
