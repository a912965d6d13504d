import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.install_service import (
    CommandStep,
    FileStep,
    Host,
    LinkStep,
    RemovalStep,
    Step,
    StepError,
    plan_installation,
    plan_removal,
)
from mirrord.cli.systemd_units import Installation, service_unit

ROOT = Path(__file__).parents[3]
HERE = Installation(Path("/opt/mirrord"), Path("/opt/mirrord/bin"), Path("/usr"))
ALL_FILES = {
    "etc/sysusers.d/mirrord.conf",
    "etc/mirrord/mirrord.toml",
    "etc/systemd/system/mirrord.service",
    "usr/local/bin/mirrord",
}


def commands(steps: Iterable[Step]) -> list[str]:
    return [" ".join(step.words) for step in steps if isinstance(step, CommandStep)]


class RootCase(SynchronousTestCase):
    """A file system to install into; no commands are run."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.host = Host(Path(folder.name).resolve(), is_running=False)

    def install(self, *, is_socket: bool = False) -> None:
        for step in tuple(plan_installation(HERE, self.host, is_socket=is_socket, is_now=False)):
            if not isinstance(step, CommandStep):
                step.apply()

    def files(self) -> set[str]:
        every = self.host.root.rglob("*")
        return {
            str(path.relative_to(self.host.root)) for path in every if path.is_symlink() or path.is_file()
        }


class InstallingTests(RootCase):
    def test_files(self) -> None:
        """The installation creates user, configuration, unit and command, and nothing else."""
        self.install()
        self.assertEqual(self.files(), ALL_FILES)
        self.assertEqual((self.host.units / "mirrord.service").read_text(), service_unit(HERE))
        self.assertEqual(self.host.command.readlink(), HERE.command)

    def test_preview(self) -> None:
        """Planning and previewing the steps changes nothing."""
        previews = [
            step.preview() for step in plan_installation(HERE, self.host, is_socket=True, is_now=False)
        ]
        self.assertEqual(list(self.host.root.iterdir()), [])
        self.assertIn("mirrord.socket", "\n".join(previews))

    def test_another_root(self) -> None:
        """For an image, systemd's tools get its root, and nothing is started or loaded."""
        ran = commands(plan_installation(HERE, self.host, is_socket=False, is_now=False))
        self.assertIn(f"systemctl --root={self.host.root} enable mirrord.service", ran)
        self.assertIn(f"systemd-sysusers --root={self.host.root} mirrord.conf", ran)
        self.assertNotIn("reload", " ".join(ran))

    def test_again(self) -> None:
        """A second installation keeps the configuration and updates the unit."""
        self.install()
        self.host.config.write_text("# mine\n")
        (self.host.units / "mirrord.service").write_text("old\n")
        self.install()
        self.assertEqual(self.host.config.read_text(), "# mine\n")
        self.assertEqual((self.host.units / "mirrord.service").read_text(), service_unit(HERE))

    def test_socket(self) -> None:
        """With a socket, its unit is installed too, and the first configuration uses its port."""
        self.install(is_socket=True)
        self.assertEqual(self.files(), ALL_FILES | {"etc/systemd/system/mirrord.socket"})
        self.assertTrue(self.host.has_socket_listener)

    def test_socket_is_kept(self) -> None:
        """An installed socket stays installed and enabled without the option."""
        self.install(is_socket=True)
        ran = commands(plan_installation(HERE, self.host, is_socket=False, is_now=False))
        self.assertIn(f"systemctl --root={self.host.root} enable mirrord.service mirrord.socket", ran)

    def test_own_port(self) -> None:
        """A configuration with a port of its own is distinguished from one with systemd's."""
        self.assertTrue(self.host.has_socket_listener)
        self.install()
        self.assertFalse(self.host.has_socket_listener)
        self.host.config.write_text("listen = 5\n")
        self.assertFalse(self.host.has_socket_listener)


class StartingTests(RootCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = Host(self.host.root, is_running=True)

    def test_now(self) -> None:
        """With `--now` the units are loaded and enabled, then the service is started or restarted."""
        ran = commands(plan_installation(HERE, self.host, is_socket=False, is_now=True))
        self.assertEqual(
            ran[-3:],
            [
                "systemctl daemon-reload",
                "systemctl enable mirrord.service",
                "systemctl restart mirrord.service",
            ],
        )

    def test_new_socket(self) -> None:
        """A socket that is new or has changed gets the port after its present owner is stopped."""
        ran = commands(plan_installation(HERE, self.host, is_socket=True, is_now=True))
        self.assertEqual(
            ran[-3:],
            [
                "systemctl enable mirrord.service mirrord.socket",
                "systemctl stop mirrord.socket mirrord.service",
                "systemctl restart mirrord.service",
            ],
        )


class UninstallingTests(RootCase):
    def uninstall(self, *, is_purge: bool) -> list[str]:
        steps = tuple(plan_removal(HERE, self.host, is_purge=is_purge))
        for step in steps:
            if not isinstance(step, CommandStep):
                step.apply()
        return commands(steps)

    def test_data_is_kept(self) -> None:
        """The units are disabled and removed; configuration and cache are kept."""
        self.install(is_socket=True)
        cache = self.host.root / "var/cache/mirrord/blob"
        cache.parent.mkdir(parents=True)
        cache.write_text("x")
        ran = self.uninstall(is_purge=False)
        self.assertEqual(ran, [f"systemctl --root={self.host.root} disable mirrord.socket mirrord.service"])
        self.assertEqual(self.files(), {"etc/mirrord/mirrord.toml", "var/cache/mirrord/blob"})

    def test_purge(self) -> None:
        """A purge removes everything."""
        self.install(is_socket=True)
        cache = self.host.root / "var/cache/mirrord/blob"
        cache.parent.mkdir(parents=True)
        cache.write_text("x")
        self.uninstall(is_purge=True)
        self.assertEqual(self.files(), set())

    def test_foreign_command(self) -> None:
        """A command `mirrord` of another installation is kept."""
        self.install()
        self.host.command.unlink()
        self.host.command.symlink_to("/opt/other/bin/mirrord")
        self.uninstall(is_purge=True)
        self.assertEqual(self.files(), {"usr/local/bin/mirrord"})

    def test_not_installed(self) -> None:
        """If nothing is installed, nothing is disabled and nothing fails."""
        self.assertEqual(self.uninstall(is_purge=True), [])


class StepCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class FileTests(StepCase):
    def test_written(self) -> None:
        """A file is written with its folders, world-readable, and nothing else is created."""
        path = self.folder / "a" / "b.conf"
        self.assertEqual(FileStep(path, "x\n").apply(), f"wrote   {path}")
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777), ("x\n", 0o644))
        self.assertEqual(list(path.parent.iterdir()), [path])

    def test_again(self) -> None:
        """A file with the right content is left, and one with other content is replaced."""
        path = self.folder / "b.conf"
        FileStep(path, "x\n").apply()
        self.assertEqual(FileStep(path, "x\n").apply(), f"left    {path}")
        self.assertEqual(FileStep(path, "y\n").apply(), f"wrote   {path}")
        self.assertEqual(path.read_text(), "y\n")

    def test_kept(self) -> None:
        """A configuration is written if there is none, and never replaced."""
        path = self.folder / "mirrord.toml"
        self.assertEqual(FileStep(path, "x\n", is_kept=True).apply(), f"wrote   {path}")
        path.write_text("mine\n")
        self.assertEqual(FileStep(path, "x\n", is_kept=True).apply(), f"left    {path}")
        self.assertEqual(path.read_text(), "mine\n")

    def test_preview(self) -> None:
        """The preview has the whole file, or reports no change, and writes nothing."""
        path = self.folder / "b.conf"
        self.assertEqual(FileStep(path, "x\n").preview(), f"==> {path}\nx\n")
        self.assertFalse(path.exists())
        FileStep(path, "x\n").apply()
        self.assertEqual(FileStep(path, "x\n").preview(), f"==> {path} is unchanged")


class LinkTests(StepCase):
    def test_made(self) -> None:
        """A link is created once."""
        path = self.folder / "bin" / "mirrord"
        self.assertEqual(LinkStep(path, Path("/opt/x")).apply(), f"linked  {path}")
        self.assertEqual(LinkStep(path, Path("/opt/x")).apply(), f"left    {path}")
        self.assertEqual(path.readlink(), Path("/opt/x"))

    def test_moved(self) -> None:
        """A link to an earlier installation is redirected to the new one."""
        path = self.folder / "mirrord"
        LinkStep(path, Path("/opt/x")).apply()
        self.assertEqual(LinkStep(path, Path("/opt/y")).apply(), f"linked  {path}")
        self.assertEqual(path.readlink(), Path("/opt/y"))

    def test_foreign(self) -> None:
        """A file that is not a link is left alone."""
        path = self.folder / "mirrord"
        path.write_text("#!/bin/sh\n")
        self.assertEqual(LinkStep(path, Path("/opt/x")).apply(), f"left    {path}")
        self.assertFalse(path.is_symlink())


class RemovalTests(StepCase):
    def test_all_kinds(self) -> None:
        """A file, a link and a whole folder are removed, but not a link's target; absence is no error."""
        file, link, folder = self.folder / "file", self.folder / "link", self.folder / "folder"
        (folder / "a").mkdir(parents=True)
        (folder / "a" / "b").write_text("x")
        link.symlink_to(file)
        file.write_text("x")
        RemovalStep(link).apply()
        self.assertTrue(file.exists())
        for path in (file, folder):
            self.assertEqual(RemovalStep(path).apply(), f"removed {path}")
        self.assertEqual(list(self.folder.iterdir()), [])
        self.assertEqual(RemovalStep(file).apply(), f"absent  {file}")


class CommandTests(StepCase):
    def test_folder(self) -> None:
        """A command runs in the root folder, not where the operator is."""
        CommandStep(("sh", "-c", 'test "$PWD" = / && ! test -e planted')).apply()

    def test_plugin_cache(self) -> None:
        """The plugin cache is filled by a Python that runs no code from the current folder."""
        (step,) = [
            step
            for step in plan_installation(
                Installation.current(), Host(self.folder, is_running=False), is_socket=False, is_now=False
            )
            if isinstance(step, CommandStep) and "getPlugins" in step.words[-1]
        ]
        witness = self.folder / "witness"
        for name in ("json.py", "twisted/plugins/planted.py"):
            planted = self.folder / name
            planted.parent.mkdir(parents=True, exist_ok=True)
            planted.write_text(f"open({str(witness)!r}, 'w')\n")
        subprocess.run(step.words, cwd=self.folder, check=True)
        self.assertFalse(witness.exists())

    def test_success(self) -> None:
        """A command that succeeds is reported without its output."""
        report = CommandStep((sys.executable, "-c", "print(5)")).apply()
        self.assertEqual(report, f"ran     {sys.executable} -c 'print(5)'")

    def test_failure(self) -> None:
        """The error of a failed command is one line, with its output or with our advice."""
        words = (sys.executable, "-c", "print('first\\nsecond'); raise SystemExit(3)")
        with self.assertRaises(StepError) as caught:
            CommandStep(words).apply()
        self.assertTrue(str(caught.exception).endswith(": first second"))
        with self.assertRaises(StepError) as caught:
            CommandStep(words, advice="look there").apply()
        self.assertTrue(str(caught.exception).endswith(": look there"))

    def test_preview(self) -> None:
        """The preview is the command as typed in a shell."""
        self.assertEqual(CommandStep(("systemctl", "a b")).preview(), "$ systemctl 'a b'")


class CommandLineTests(SynchronousTestCase):
    """The command as a process; tests/integration/test_systemd.py tests its effects."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def call(self, *options: str) -> "subprocess.CompletedProcess[str]":
        code = "from mirrord.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, "install-service", *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_dry_run(self) -> None:
        """A dry run prints every file and every command, and changes nothing."""
        done = self.call("--dry-run", "--socket", f"--root={self.root}")
        self.assertEqual(done.returncode, 0, done.stderr)
        for file in ("etc/systemd/system/mirrord.service", "etc/systemd/system/mirrord.socket"):
            self.assertIn(f"==> {self.root}/{file}\n", done.stdout)
        self.assertIn(f"ExecStart={Path(sys.executable).parent}/twistd ", done.stdout)
        self.assertIn("\n[store]\n", done.stdout)
        self.assertIn(f"$ systemctl --root={self.root} enable ", done.stdout)
        self.assertEqual(list(self.root.iterdir()), [])

    def test_wrong_use(self) -> None:
        """Contradictory options exit with status 2 and one line."""
        for options in (("--purge",), ("--uninstall", "--now"), ("--now", f"--root={self.root}")):
            done = self.call(*options)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (2, "", 1), done)

    def test_foreign_port(self) -> None:
        """A socket is not installed if the configuration has a port of its own; the error has the reason."""
        config = self.root / "etc/mirrord/mirrord.toml"
        config.parent.mkdir(parents=True)
        config.write_text('[[listen]]\nendpoint = "tcp:5000"\n')
        done = self.call("--socket", f"--root={self.root}")
        self.assertEqual((done.returncode, done.stderr.count("\n")), (1, 1), done)
        self.assertIn("systemd:domain=INET:name=mirrord", done.stderr)
        self.assertFalse((self.root / "etc/systemd").exists())
