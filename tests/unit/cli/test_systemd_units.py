import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.systemd_units import SOCKET_ENDPOINT, Installation, configuration, service_unit, socket_unit

ROOT = Path(__file__).parents[3]


def installation(prefix: str = "/srv/mirror", base: str = "/usr") -> Installation:
    return Installation(Path(prefix), Path(prefix, "bin"), Path(base))


class ServiceUnitTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """The unit is the file of `systemd/` with this installation's twistd, and differs in nothing else."""
        shipped = (ROOT / "systemd" / "mirrord.service").read_text().splitlines()
        rendered = service_unit(installation()).splitlines()
        changed = [after for before, after in zip(shipped, rendered, strict=True) if before != after]
        (line,) = changed
        self.assertTrue(line.startswith("ExecStart=/srv/mirror/bin/twistd --nodaemon --pidfile= "), line)

    def test_default_place(self) -> None:
        """For an installation in /opt/mirrord the shipped unit is right as it is."""
        shipped = (ROOT / "systemd" / "mirrord.service").read_text()
        self.assertEqual(service_unit(installation("/opt/mirrord")), shipped)


class ConfigurationTests(SynchronousTestCase):
    def test_own_port(self) -> None:
        """The first configuration listens at loopback."""
        (listener,) = tomllib.loads(configuration(is_socket=False))["listen"]
        self.assertEqual(listener["endpoint"], "tcp:5000:interface=127.0.0.1")

    def test_port_of_systemd(self) -> None:
        """With the socket unit, the first configuration takes the port that this unit names and holds."""
        (listener,) = tomllib.loads(configuration(is_socket=True))["listen"]
        self.assertEqual(listener["endpoint"], SOCKET_ENDPOINT)
        name = SOCKET_ENDPOINT.rpartition("name=")[2]
        self.assertIn(f"\nFileDescriptorName={name}\n", socket_unit())
        self.assertIn("\nListenStream=127.0.0.1:5000\n", socket_unit())


class PlaceTests(SynchronousTestCase):
    def test_visible(self) -> None:
        """An installation in /opt or /srv can be a service."""
        self.assertIsNone(installation("/opt/mirrord").objection())
        self.assertIsNone(installation("/srv/mirror").objection())

    def test_hidden(self) -> None:
        """One that the unit hides from itself cannot, and is told where to be."""
        for prefix in ("/root/venv", "/home/me/mirrord/.venv", "/tmp/venv"):
            self.assertRegex(str(installation(prefix).objection()), f"{prefix}.*install in /opt/mirrord")

    def test_hidden_python(self) -> None:
        """Nor can one whose Python is hidden, as pyenv's and uv's are."""
        objection = installation(base="/home/me/.pyenv/versions/3.11.7").objection()
        self.assertIn("/home/me/.pyenv", str(objection))

    def test_closed(self) -> None:
        """One that was made under a strict umask cannot, and is told how to be opened."""
        with TemporaryDirectory(dir="/dev/shm") as folder:  # /tmp is hidden from services
            here = installation(folder)
            here.scripts.mkdir(mode=0o755)
            here.twistd.touch(0o700)
            self.assertRegex(str(here.objection()), f"may not enter {here.twistd}: chmod -R go.rX {folder}")
            here.twistd.chmod(0o755)
            self.assertRegex(str(here.objection()), f"may not enter {folder}: ")
            Path(folder).chmod(0o755)
            self.assertIsNone(here.objection())

    def test_words_of_systemd(self) -> None:
        """A path that systemd would read otherwise than we write it is refused."""
        for prefix in ("/srv/a b", "/srv/100%", "/srv/$x", '/srv/"'):
            self.assertIn("install in /opt/mirrord", str(installation(prefix).objection()))
