import json
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.client import install_client_file
from mirrord.cli.exit_status import CommandError
from mirrord.client_config import ClientFile

DAEMON = ClientFile("/etc/docker/daemon.json", '{ "registry-mirrors": ["http://m"] }\n')
CONF = ClientFile("/etc/x.conf", "ours\n")


class InstallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.root)
        self.etc = self.root / "etc"

    def write(self, name: str, text: str) -> Path:
        path = self.etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.etc)) for path in self.etc.rglob("*") if path.is_file())

    def test_new(self) -> None:
        """A new file has the content of the recipe and is world-readable."""
        install_client_file(CONF, self.root)
        path = self.etc / "x.conf"
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777), ("ours\n", 0o644))
        self.assertEqual(self.names(), ["x.conf"])

    def test_again(self) -> None:
        """Installing a file again changes nothing and makes no backup."""
        for file in (CONF, DAEMON):
            install_client_file(file, self.root)
            self.assertIn("is up to date", install_client_file(file, self.root))
        self.assertEqual(self.names(), ["docker/daemon.json", "x.conf"])

    def test_foreign(self) -> None:
        """Previous content is saved beside the file, also a second time; the mode is kept."""
        path = self.write("x.conf", "theirs\n")
        path.chmod(0o600)
        self.write("x.conf.bak", "older\n")
        self.assertIn("x.conf.bak2", install_client_file(CONF, self.root))
        self.assertEqual((path.read_text(), path.stat().st_mode & 0o777), ("ours\n", 0o600))
        self.assertEqual((self.etc / "x.conf.bak").read_text(), "older\n")
        self.assertEqual((self.etc / "x.conf.bak2").read_text(), "theirs\n")

    def test_daemon_json(self) -> None:
        """daemon.json keeps its other keys, and its other mirrors after ours."""
        path = self.write("docker/daemon.json", '{"debug": true, "registry-mirrors": ["http://other"]}')
        install_client_file(DAEMON, self.root)
        self.assertEqual(
            json.loads(path.read_text()), {"debug": True, "registry-mirrors": ["http://m", "http://other"]}
        )
        self.assertIn("is up to date", install_client_file(DAEMON, self.root))
        self.assertEqual(self.names(), ["docker/daemon.json", "docker/daemon.json.bak"])

    def test_empty_daemon_json(self) -> None:
        """An empty daemon.json is replaced."""
        path = self.write("docker/daemon.json", "\n")
        install_client_file(DAEMON, self.root)
        self.assertEqual(path.read_text(), DAEMON.text)

    def test_unmergeable(self) -> None:
        """A daemon.json that cannot be merged with ours is unchanged."""
        for text in ("{", "[]", "[" * 99_999, '{"registry-mirrors": "x"}', "\udcff"):
            path = self.write("docker/daemon.json", "")
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
            with self.assertRaises(CommandError, msg=text):
                install_client_file(DAEMON, self.root)
            self.assertEqual(path.read_bytes(), text.encode("utf-8", "surrogateescape"))
        self.assertEqual(self.names(), ["docker/daemon.json"])

    def test_link(self) -> None:
        """A link is kept and its target written; a link out of the root is rejected."""
        self.write("real", "theirs\n")
        (self.etc / "x.conf").symlink_to("real")
        install_client_file(CONF, self.root)
        self.assertEqual((self.etc / "real").read_text(), "ours\n")
        self.assertTrue((self.etc / "x.conf").is_symlink())
        (self.etc / "x.conf").unlink()
        (self.etc / "x.conf").symlink_to("/etc/hostname")
        with self.assertRaises(CommandError):
            install_client_file(CONF, self.root)

    def test_no_folder(self) -> None:
        """If a folder cannot be created, the error names the file."""
        self.write("x.conf", "a file")
        with self.assertRaises(CommandError) as caught:
            install_client_file(ClientFile("/etc/x.conf/y", ""), self.root)
        self.assertIn("x.conf/y", caught.exception.message)
