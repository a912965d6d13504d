from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.host import Host, installing, uninstalling
from mirrord.cli.steps import Command, Step
from mirrord.cli.systemd_units import Installation, service_unit

HERE = Installation(Path("/opt/mirrord"), Path("/opt/mirrord/bin"), Path("/usr"))
ALL_FILES = {
    "etc/sysusers.d/mirrord.conf",
    "etc/mirrord/mirrord.toml",
    "etc/systemd/system/mirrord.service",
    "usr/local/bin/mirrord",
}


def commands(steps: Iterable[Step]) -> list[str]:
    return [" ".join(step.words) for step in steps if isinstance(step, Command)]


class RootCase(SynchronousTestCase):
    """A file system that is only looked at and written to; no command is run for it."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.host = Host(Path(folder.name).resolve(), is_running=False)

    def install(self, *, is_socket: bool = False) -> None:
        for step in tuple(installing(HERE, self.host, is_socket=is_socket, is_now=False)):
            if not isinstance(step, Command):
                step.take()

    def files(self) -> set[str]:
        every = self.host.root.rglob("*")
        return {
            str(path.relative_to(self.host.root)) for path in every if path.is_symlink() or path.is_file()
        }


class InstallingTests(RootCase):
    def test_files(self) -> None:
        """User, configuration, unit and command are there afterwards, and nothing else."""
        self.install()
        self.assertEqual(self.files(), ALL_FILES)
        self.assertEqual((self.host.units / "mirrord.service").read_text(), service_unit(HERE))
        self.assertEqual(self.host.command.readlink(), HERE.command)

    def test_showing_touches_nothing(self) -> None:
        """Looking at the steps, and showing them, leaves an empty root empty."""
        shown = [step.show() for step in installing(HERE, self.host, is_socket=True, is_now=False)]
        self.assertEqual(list(self.host.root.iterdir()), [])
        self.assertIn("mirrord.socket", "\n".join(shown))

    def test_another_root(self) -> None:
        """For an image, systemd's tools are told its root, and nothing is started or loaded."""
        ran = commands(installing(HERE, self.host, is_socket=False, is_now=False))
        self.assertIn(f"systemctl --root={self.host.root} enable mirrord.service", ran)
        self.assertIn(f"systemd-sysusers --root={self.host.root} mirrord.conf", ran)
        self.assertNotIn("reload", " ".join(ran))

    def test_again(self) -> None:
        """A second time keeps the operator's configuration, and brings the unit up to date."""
        self.install()
        self.host.config.write_text("# mine\n")
        (self.host.units / "mirrord.service").write_text("old\n")
        self.install()
        self.assertEqual(self.host.config.read_text(), "# mine\n")
        self.assertEqual((self.host.units / "mirrord.service").read_text(), service_unit(HERE))

    def test_socket(self) -> None:
        """With a socket, its unit is there too and the first configuration takes its port from it."""
        self.install(is_socket=True)
        self.assertEqual(self.files(), ALL_FILES | {"etc/systemd/system/mirrord.socket"})
        self.assertTrue(self.host.is_listening_by_socket)

    def test_a_socket_stays(self) -> None:
        """A socket that is installed stays installed, and enabled, without being asked for again."""
        self.install(is_socket=True)
        ran = commands(installing(HERE, self.host, is_socket=False, is_now=False))
        self.assertIn(f"systemctl --root={self.host.root} enable mirrord.service mirrord.socket", ran)

    def test_own_port(self) -> None:
        """A configuration with a port of its own is told from one that takes systemd's."""
        self.assertTrue(self.host.is_listening_by_socket)
        self.install()
        self.assertFalse(self.host.is_listening_by_socket)
        self.host.config.write_text("listen = 5\n")
        self.assertFalse(self.host.is_listening_by_socket)


class StartingTests(RootCase):
    def setUp(self) -> None:
        super().setUp()
        self.host = Host(self.host.root, is_running=True)

    def test_now(self) -> None:
        """With `--now` the units are loaded and enabled, and then the service is started, or restarted."""
        ran = commands(installing(HERE, self.host, is_socket=False, is_now=True))
        self.assertEqual(
            ran[-3:],
            [
                "systemctl daemon-reload",
                "systemctl enable mirrord.service",
                "systemctl restart mirrord.service",
            ],
        )

    def test_new_socket(self) -> None:
        """A socket that is new, or has changed, gets the port from whoever has it now."""
        ran = commands(installing(HERE, self.host, is_socket=True, is_now=True))
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
        steps = tuple(uninstalling(HERE, self.host, is_purge=is_purge))
        for step in steps:
            if not isinstance(step, Command):
                step.take()
        return commands(steps)

    def test_keeps(self) -> None:
        """The units go, after they were disabled; configuration and cache stay."""
        self.install(is_socket=True)
        cache = self.host.root / "var/cache/mirrord/blob"
        cache.parent.mkdir(parents=True)
        cache.write_text("x")
        ran = self.uninstall(is_purge=False)
        self.assertEqual(ran, [f"systemctl --root={self.host.root} disable mirrord.socket mirrord.service"])
        self.assertEqual(self.files(), {"etc/mirrord/mirrord.toml", "var/cache/mirrord/blob"})

    def test_purge(self) -> None:
        """A purge leaves nothing."""
        self.install(is_socket=True)
        cache = self.host.root / "var/cache/mirrord/blob"
        cache.parent.mkdir(parents=True)
        cache.write_text("x")
        self.uninstall(is_purge=True)
        self.assertEqual(self.files(), set())

    def test_foreign_command(self) -> None:
        """A command `mirrord` that leads to another installation stays."""
        self.install()
        self.host.command.unlink()
        self.host.command.symlink_to("/opt/other/bin/mirrord")
        self.uninstall(is_purge=True)
        self.assertEqual(self.files(), {"usr/local/bin/mirrord"})

    def test_nothing_there(self) -> None:
        """Where nothing is installed, nothing is disabled and nothing fails."""
        self.assertEqual(self.uninstall(is_purge=True), [])
