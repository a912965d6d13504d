"""Tests of mirrord/cli/global_options.py."""

import os
import socket
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.addresses import Address
from mirrord.cli.admin_client import AdminClient
from mirrord.cli.exit_status import CommandError, DaemonUnreachable
from mirrord.cli.global_options import GlobalOptions
from mirrord.cli.ownership import Owner

NOBODY = Owner(65_534, 65_534)


class AddressCase(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        for variable in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
            self.addCleanup(os.environ.pop, variable, None)
            (self.folder / variable).mkdir()
            os.environ[variable] = str(self.folder / variable)

    def options(self, text: str, admin: str | None = None) -> GlobalOptions:
        config = self.folder / "mirrord.toml"
        config.write_text(f'[store]\npath = "{self.folder}"\n[admin]\n{text}')
        return GlobalOptions(config, admin)


class CommandAddressTests(AddressCase):
    def test_configured(self) -> None:
        """Commands go to the configured socket, to an admin endpoint that is one, or where --admin says."""
        for text, admin, path in (
            ('socket = "/run/x"', None, "/run/x"),
            ('endpoint = "unix:/run/y:mode=660"', None, "/run/y"),
            ('endpoint = "unix:/run/y"\nsocket = "/run/x"', None, "/run/x"),
            ('socket = "/run/x"', "/run/z", "/run/z"),
            ('socket = "/run/x"', "unix:/run/z", "/run/z"),
        ):
            self.assertEqual(Address.of_socket(Path(path)), self.options(text, admin).commands())

    def test_found(self) -> None:
        """By default the first socket is used that exists: in the runtime folder, the state, the store."""
        options = self.options("")
        paths = [self.folder / name / "command" for name in ("RUNTIME_DIRECTORY", "STATE_DIRECTORY", ".")]
        self.assertEqual(Address.of_socket(paths[0]), options.commands())
        for path in reversed(paths):
            path.touch()
            self.assertEqual(Address.of_socket(path), options.commands())

    def test_status(self) -> None:
        """Status and health are requested at the admin endpoint."""
        self.assertEqual(Address.parse("tcp:5001"), self.options('socket = "/run/x"').admin())
        self.assertEqual(Address.parse("tcp:7"), self.options('endpoint = "tcp:7"').admin())


class AdviceTests(AddressCase):
    def test_no_daemon(self) -> None:
        """Without a daemon the error names the socket and what to do."""
        client = AdminClient(self.options("").commands())
        self.assertFalse(client.is_running())
        error = self.assertRaises(DaemonUnreachable, client.fetch, "GET", "/why")
        self.assertIn("RUNTIME_DIRECTORY/command: No such file or directory; start it, or", error.message)

    def test_no_permission(self) -> None:
        """A user who may not connect is told so, with the group that may; no other daemon is started."""
        if os.geteuid() != 0:
            self.skipTest("needs another user")
        path = self.folder / "command"
        self.folder.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            path.chmod(0o660)
            client = AdminClient(Address.of_socket(path))
            with NOBODY.acting():
                self.assertTrue(client.is_running())
                error = self.assertRaises(CommandError, client.fetch, "GET", "/why")
            self.assertEqual(1, error.exit_code)
            self.assertIn("try again with sudo, or as a member of the group root", error.message)
            self.folder.chmod(0o750)
            with NOBODY.acting():
                self.assertTrue(client.is_running())
            os.chown(path, -1, NOBODY.gid)
            self.folder.chmod(0o755)
            with NOBODY.acting():
                client.address.connection(5).connect()
