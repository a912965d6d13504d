import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.systemd_units import SOCKET_ENDPOINT, Installation, configuration, service_unit, template

ROOT = Path(__file__).parents[3]


def installation(prefix: str = "/srv/mirror", base: str = "/usr") -> Installation:
    return Installation(Path(prefix), Path(prefix, "bin"), Path(base))


class ServiceUnitTests(SynchronousTestCase):
    def test_paths(self) -> None:
        """The unit differs from the file in `systemd/` only in the path of twistd."""
        shipped = (ROOT / "systemd" / "mirrord.service").read_text().splitlines()
        rendered = service_unit(installation()).splitlines()
        changed = [after for before, after in zip(shipped, rendered, strict=True) if before != after]
        (line,) = changed
        self.assertTrue(line.startswith("ExecStart=/srv/mirror/bin/twistd --nodaemon --pidfile= "), line)

    def test_default_place(self) -> None:
        """For an installation in /opt/mirrord the unit is the file in `systemd/`."""
        shipped = (ROOT / "systemd" / "mirrord.service").read_text()
        self.assertEqual(service_unit(installation("/opt/mirrord")), shipped)


class ConfigurationTests(SynchronousTestCase):
    def test_own_port(self) -> None:
        """The first configuration listens on loopback."""
        (listener,) = tomllib.loads(configuration(is_socket=False))["listen"]
        self.assertEqual(listener["endpoint"], "tcp:5000:interface=127.0.0.1")

    def test_port_of_systemd(self) -> None:
        """With the socket unit, the first configuration listens on the port of that unit."""
        (listener,) = tomllib.loads(configuration(is_socket=True))["listen"]
        self.assertEqual(listener["endpoint"], SOCKET_ENDPOINT)
        name = SOCKET_ENDPOINT.rpartition("name=")[2]
        self.assertIn(f"\nFileDescriptorName={name}\n", template("mirrord.socket"))
        self.assertIn("\nListenStream=127.0.0.1:5000\n", template("mirrord.socket"))


class ObstacleTests(SynchronousTestCase):
    def test_visible(self) -> None:
        """An installation in /opt or /srv can run as a service."""
        self.assertIsNone(installation("/opt/mirrord").service_obstacle())
        self.assertIsNone(installation("/srv/mirror").service_obstacle())

    def test_hidden(self) -> None:
        """An installation in a folder that is hidden from the service cannot; the error suggests another."""
        for prefix in ("/root/venv", "/home/me/mirrord/.venv", "/tmp/venv"):
            self.assertRegex(
                str(installation(prefix).service_obstacle()), f"{prefix}.*install in /opt/mirrord"
            )

    def test_hidden_python(self) -> None:
        """An installation whose base Python is hidden, as those of pyenv and uv are, cannot."""
        objection = installation(base="/home/me/.pyenv/versions/3.11.7").service_obstacle()
        self.assertIn("/home/me/.pyenv", str(objection))

    def test_closed(self) -> None:
        """An installation made under a strict umask cannot; the error has the command to fix it."""
        with TemporaryDirectory(dir="/dev/shm") as folder:  # /tmp is hidden from services
            here = installation(folder)
            here.scripts.mkdir(mode=0o755)
            here.twistd.touch(0o700)
            self.assertRegex(
                str(here.service_obstacle()), f"no access to {here.twistd}; run: chmod -R go.rX {folder}"
            )
            here.twistd.chmod(0o755)
            self.assertRegex(str(here.service_obstacle()), f"no access to {folder}; run: ")
            Path(folder).chmod(0o755)
            self.assertIsNone(here.service_obstacle())

    def test_special_characters(self) -> None:
        """A path that would need escapes in a unit is rejected."""
        for prefix in ("/srv/a b", "/srv/100%", "/srv/$x", '/srv/"'):
            self.assertIn("install in /opt/mirrord", str(installation(prefix).service_obstacle()))
