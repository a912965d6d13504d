"""SIGHUP, and the notifications that systemd receives from the start of a daemon to its exit."""

import os
import signal
import socket
import time
from pathlib import Path

import attrs
import trustme

from tests.fakes.faults import Kind, Stall
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull
from tests.integration.daemon import Daemon


class _NotifySocket:
    """systemd's end of NOTIFY_SOCKET: all messages, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(30)

    def receive(self, prefix: str) -> str:
        """Return the next message that starts with `prefix`, and skip others before it."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            message = self.socket.recv(4096).decode()
            if message.startswith(prefix):
                return message
        raise AssertionError(f"{prefix} was not received")


class NotifyTests(MirrorCase):
    def test_from_start_to_end(self) -> None:
        """Systemd is notified of the start, of each watchdog interval, of a reload and of the drain."""
        systemd = _NotifySocket(self.folder / "notify")
        self.addCleanup(systemd.socket.close)
        daemon = self.start_daemon(
            {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "600000"}, drain_timeout="1s"
        )
        systemd.receive("READY=1")
        for _ in range(3):
            systemd.receive("WATCHDOG=1")

        os.kill(daemon.pid, signal.SIGHUP)
        self.assertRegex(systemd.receive("RELOADING=1"), r"^RELOADING=1\nMONOTONIC_USEC=\d+$")
        systemd.receive("READY=1")

        os.kill(daemon.pid, signal.SIGSTOP)
        self._drop_all(systemd)
        systemd.socket.settimeout(1.5)
        self.assertRaises(TimeoutError, systemd.receive, "WATCHDOG=1")
        os.kill(daemon.pid, signal.SIGCONT)
        systemd.socket.settimeout(30)
        systemd.receive("WATCHDOG=1")

        daemon.stop()
        systemd.receive("STOPPING=1")

    def _drop_all(self, systemd: _NotifySocket) -> None:
        systemd.socket.settimeout(0.2)
        try:
            while True:
                systemd.socket.recv(4096)
        except TimeoutError:
            pass


class ReloadTests(MirrorCase):
    def _reload(self, daemon: Daemon, **settings: str) -> None:
        daemon.settings = attrs.evolve(daemon.settings, **settings)
        daemon.write_config()
        os.kill(daemon.pid, signal.SIGHUP)

    def test_what_can_change(self) -> None:
        """An upstream's patterns change at once; a running download continues and is requested once."""
        image = self.registry.put_image(8 * MB)
        daemon = self.start_daemon()
        self.registry.play(Stall(after=4 * MB, seconds=1.0))
        running = Reading.open(daemon.blob(image.layer.digest))
        running.read_until(MB)

        self._reload(daemon, more_upstream='deny = ["library/app"]')
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 403, what="the new pattern")

        self.assert_right(running.read_all(), image.layer)
        self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT)), 1)
        self._reload(daemon, more_upstream="")
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 200, what="the old pattern")
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.assertEqual(len(self.registry.journal.requests(Kind.CONTENT)), 1)

    def test_what_cannot_change(self) -> None:
        """A key that is bound at the start keeps its value, and the log names it."""
        daemon = self.start_daemon()
        self._reload(daemon, more='[log]\nlevel = "info"\n[[listen]]\nendpoint = "tcp:0"')
        self.wait_until(lambda: "listen has changed and takes effect" in daemon.log, what="the warning")
        self.assertEqual(pull(f"{daemon.url}/v2/").status, 200)

    def test_incomplete_renewal(self) -> None:
        """A certificate whose key does not match yet does not prevent the rest of a reload."""
        authority = trustme.CA()
        files = self.folder / "chain.pem", self.folder / "key.pem"
        self._write(authority, *files)
        daemon = self.start_daemon(
            more='[[listen]]\nendpoint = "tcp:0:interface=127.0.0.1"\n'
            f'certificate = "{files[0]}"\nkey = "{files[1]}"'
        )
        self._write(authority, files[0], self.folder / "elsewhere.pem")
        self._reload(daemon, more_upstream='deny = ["library/app"]')
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 403, what="the new pattern")
        self.wait_until(lambda: b"not the key" in pull(f"{daemon.admin_url}/readyz").body, what="the problem")

    def _write(self, authority: trustme.CA, certificate: Path, key: Path) -> None:
        issued = authority.issue_cert("mirror.lan")
        certificate.write_bytes(issued.cert_chain_pems[0].bytes())
        key.write_bytes(issued.private_key_pem.bytes())

    def test_a_pipe(self) -> None:
        """A configuration that was read from a pipe is not reread as an empty file."""
        daemon = self.start_daemon()
        config = self.folder / "mirrord" / "mirrord.toml"
        config.unlink()
        os.mkfifo(config)
        os.kill(daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: "is not a regular file" in daemon.log, what="the error")
        self.assertEqual(pull(f"{daemon.url}/v2/").status, 200)

    def test_a_bad_file(self) -> None:
        """A file with errors changes nothing, and is reported by the log and /readyz until it is repaired."""
        self.registry.put_image(MB)
        daemon = self.start_daemon()
        self._reload(daemon, more='[gc]\ninterval = "soon"', more_upstream='deny = ["library/app"]')
        self.wait_until(lambda: "gc.interval" in daemon.log, what="the error")
        self.assertEqual(pull(daemon.manifest("latest")).status, 200)
        self.assertIn(b"gc.interval", pull(f"{daemon.admin_url}/readyz").body)

        self._reload(daemon, more="", more_upstream="")
        self.wait_until(lambda: b"gc.interval" not in pull(f"{daemon.admin_url}/readyz").body)
