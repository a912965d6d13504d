"""The socket for commands of a running daemon, and the TCP port that accepts none."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import attrs

from tests.integration.activated import ActivatedDaemon
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.command import mirrord
from tests.integration.daemon import ROOT, Daemon, Settings

COMMANDS = (
    ("GET", "/repositories"),
    ("DELETE", "/repositories?reference=library/app"),
    ("POST", "/sweep"),
    ("POST", "/pull?reference=app"),
    ("POST", "/verify"),
    ("GET", "/why?reference=app"),
)
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"Mirrord-Command": "1"},
    {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "Via": "1.1 proxy"},
)


class SocketTests(MirrorCase):
    def url(self, path: Path) -> str:
        return f"http+unix://{quote(str(path), safe='')}"

    def test_tcp(self) -> None:
        """TCP serves metrics, health and status; every command is refused, also a forwarded one."""
        daemon = self.start_daemon()
        for path in ("/metrics", "/healthz", "/readyz", "/status"):
            self.assertEqual(200, pull(daemon.admin_url + path).status)
        for method, path in COMMANDS:
            for headers in HEADERS:
                refused = pull(daemon.admin_url + path, headers, method)
                self.assertEqual(403, refused.status, path)
                (error,) = json.loads(refused.body)["errors"]
                self.assertEqual(
                    f"commands are accepted at the Unix socket {daemon.command_socket} only", error["message"]
                )
        self.assertNotIn("command of user", daemon.log)

    def test_cli_over_tcp(self) -> None:
        """A command line that is directed to the TCP port prints where commands are accepted."""
        daemon = self.start_daemon()
        ended = mirrord("ls", "--admin", daemon.admin_url, home=self.folder)
        self.assertEqual((1, 1), (ended.status, len(ended.err.splitlines())), ended)
        self.assertIn(str(daemon.command_socket), ended.err)
        self.assertEqual(0, mirrord("status", "--admin", daemon.admin_url, home=self.folder).status)
        for admin in (str(daemon.command_socket), f"unix:{daemon.command_socket}"):
            for command in ("ls", "status"):
                self.assertEqual(0, mirrord(command, "--admin", admin, home=self.folder).status)

    def test_mode_and_log(self) -> None:
        """The socket has the mode 0660 whatever the umask; user and process of a command are logged."""
        umask = os.umask(0)
        self.addCleanup(os.umask, umask)
        daemon = self.start_daemon()
        status = daemon.command_socket.stat()
        self.assertTrue(stat.S_ISSOCK(status.st_mode))
        self.assertEqual(
            (0o660, os.geteuid(), os.getegid()), (status.st_mode & 0o7777, status.st_uid, status.st_gid)
        )
        pull(f"{daemon.command_url}/why?reference=app")
        line = f"command of user {os.geteuid()}, process {os.getpid()}: GET /why?reference=app"
        self.wait_until(lambda: line in daemon.log, what="the log entry")

    def test_unix_endpoint(self) -> None:
        """An admin endpoint that is a Unix socket accepts commands itself, and there is no other socket."""
        endpoint = self.folder / "admin"
        daemon = self.start_daemon(admin_endpoint=f"unix:{endpoint}")
        for path in ("/why?reference=app", "/status"):
            self.assertEqual(200, pull(self.url(endpoint) + path).status)
        self.assertEqual(0o600, endpoint.stat().st_mode & 0o7777)
        self.assertFalse(daemon.command_socket.exists())
        daemon.stop()
        self.assertFalse(endpoint.exists())

    def test_killed(self) -> None:
        """The socket of a daemon that was killed is replaced, and that of one that stops is removed."""
        daemon = self.start_daemon()
        daemon.kill()
        self.assertTrue(daemon.command_socket.is_socket())
        daemon.start()
        self.assertEqual(200, pull(f"{daemon.command_url}/why?reference=app").status)
        daemon.stop()
        self.assertFalse(daemon.command_socket.exists())

    def test_in_use(self) -> None:
        """A second daemon at the same socket does not start, with one line that names it; the first stays."""
        path = self.folder / "shared"
        daemon = self.start_daemon(more_admin=f'socket = "{path}"')
        other = Daemon(self.folder / "other", attrs.evolve(daemon.settings))
        other.folder.mkdir()
        twistd = str(Path(sys.executable).with_name("twistd"))
        done = subprocess.run(
            [twistd, "--nodaemon", "--pidfile=", "mirrord", "--config", str(other.write_config())],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(1, done.returncode)
        (line,) = [line for line in (done.stdout + done.stderr).splitlines() if str(path) in line]
        self.assertTrue(line.endswith(f"cannot listen at unix:{path}: another process listens there"), line)
        self.assertEqual(200, pull(f"{self.url(path)}/why?reference=app").status)

    def test_long_path(self) -> None:
        """A socket whose path is too long is one clear line of the configuration check."""
        config = self.folder / "mirrord.toml"
        path = f"/run/{'x' * 103}"
        config.write_text(f'[store]\npath = "{self.folder}/store"\n[admin]\nsocket = "{path}"\n')
        ended = mirrord("check-config", "--config", str(config), home=self.folder)
        self.assertEqual(1, ended.status)
        self.assertIn(
            "admin.socket: the path of a Unix socket must not exceed 107 bytes; this has 108", ended.err
        )

    def test_systemd(self) -> None:
        """An admin port that systemd passes serves status and no command, which the socket accepts."""
        port = "tcp:0:interface=127.0.0.1"
        settings = Settings(self.registry.url, admin_endpoint="systemd:domain=INET:name=mirrord")
        daemon = ActivatedDaemon(self.folder / "activated", settings, client_endpoint=port)
        self.addCleanup(daemon.close)
        daemon.start()
        self.wait_until(lambda: pull(f"{daemon.url}/status").status == 200, what="the start")
        self.assertEqual(403, pull(f"{daemon.url}/why?reference=app").status)
        self.assertEqual(200, pull(f"{self.url(daemon.folder / 'store/command')}/why?reference=app").status)


class PeerTests(MirrorCase):
    def test_user(self) -> None:
        """A user who is neither the daemon's nor in its group cannot connect."""
        if os.geteuid() != 0:
            self.skipTest("needs another user")
        path = self.folder / "command"
        self.folder.chmod(0o755)
        self.start_daemon(more_admin=f'socket = "{path}"')

        def connect(uid: int, gid: int) -> int:
            code = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
            done = subprocess.run(
                ["/usr/bin/env", "python3", "-c", code], user=uid, group=gid, extra_groups=[],
                env={"PATH": "/usr/bin:/bin"}, stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
            return done.returncode

        self.assertEqual((1, 0), (connect(12_345, 12_346), connect(12_345, os.getegid())))
