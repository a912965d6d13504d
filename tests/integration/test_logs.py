"""The log of a daemon, with a line per pull, and its access log, with a line per request."""

import json
import os
import re
import signal

import attrs

from mirrord.observe.events import Event
from tests.integration.case import MB, MirrorCase
from tests.integration.client import Reading, pull, pull_at_once
from tests.integration.daemon import Daemon

_PULLED = (
    r"^\S+Z info     pulled docker\.io/library/app:latest for 127\.0\.0\.1: (\w+), (\d+) bytes in \S+ s$"
)


class LogTests(MirrorCase):
    def _reload(self, daemon: Daemon, log: str) -> None:
        daemon.settings = attrs.evolve(daemon.settings, more=f"[log]\n{log}")
        daemon.write_config()
        os.kill(daemon.pid, signal.SIGHUP)
        self.wait_until(lambda: "configuration reloaded" in daemon.log, what="the reload")

    def test_pulls(self) -> None:
        """At info a pull is one line with its outcome, whatever the number of its blobs."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        for _ in range(2):
            pull(daemon.manifest("latest"))
            pull(daemon.blob(image.layer.digest))
        self.wait_until(lambda: "hit" in daemon.log, what="the second line")
        logged = re.findall(_PULLED, daemon.log, re.MULTILINE)
        self.assertEqual(logged, [("stored", str(image.manifest.size)), ("hit", str(image.manifest.size))])
        self.assertNotIn("blob", daemon.log)

        status = json.loads(pull(daemon.admin_url + "/status").body)
        self.assertEqual(status["saved"]["pulls"], 1)
        # Tokens and challenges were received from the upstream too, and sent to no client.
        missing = image.layer.size + image.manifest.size - status["saved"]["bytes"]
        self.assertTrue(0 <= missing < 2000, missing)

    def test_reload(self) -> None:
        """A reload changes format and level: at debug, blobs are logged too, with their fields."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        self._reload(daemon, 'format = "json"\nlevel = "debug"')
        before = len(daemon.log)
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        self.wait_until(lambda: Event.ANSWERED.word in daemon.log, what="the line")
        entries = [json.loads(line) for line in daemon.log[before:].splitlines()]
        (logged,) = [entry for entry in entries if entry.get("event") == Event.ANSWERED.word]
        self.assertEqual(
            (logged["level"], logged["repository"], logged["digest"], logged["outcome"], logged["bytes"]),
            ("debug", "library/app", image.layer.digest, "stored", image.layer.size),
        )

    def test_outage(self) -> None:
        """An outage is one warning and one report of its end, whatever the number of pulls in between."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(tag_ttl="1ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.wait_until_settled(daemon)
        self.registry.down()
        for _ in range(4):
            for pulled in pull_at_once(8, daemon.manifest("latest")):
                self.assert_right(pulled, image.manifest)
        self.registry.up()
        self.wait_until(
            lambda: pull(daemon.manifest("latest")).status == 200 and "circuit closed" in daemon.log,
            what="the recovery",
        )
        lines = [line.split(maxsplit=2)[1:] for line in daemon.log.splitlines()]
        self.assertEqual(len([text for level, text in lines if level in {"warn", "error"}]), 1, daemon.log)
        logged = [text for _, text in lines if text.startswith(("docker.io ", "docker.io:"))]
        self.assertEqual(len(logged), 2, logged)
        stale = [text for _, text in lines if "for 127.0.0.1: stale" in text]
        self.assertGreaterEqual(len(stale), 32, daemon.log)

    def test_aborted(self) -> None:
        """For a client that disconnects, the bytes that it was sent are logged."""
        image = self.registry.put_image(8 * MB)
        self.registry.throttle(4 * MB)
        daemon = self.start_daemon(more='[log]\nlevel = "debug"\nformat = "json"')
        reading = Reading.open(daemon.blob(image.layer.digest))
        reading.read_until(MB)
        reading.hang_up()
        self.wait_until(lambda: ", aborted" in daemon.log, what="the end of the request")
        (line,) = [line for line in daemon.log.splitlines() if ", aborted" in line]
        logged = json.loads(line)
        self.assertGreaterEqual(logged["bytes"], MB)
        self.assertLess(logged["bytes"], 8 * MB)

    def test_access_log(self) -> None:
        """Every request is a line of the access log, which can be renamed at any time."""
        image = self.registry.put_image(MB)
        access = self.folder / "access.log"
        daemon = self.start_daemon(more=f'[log]\naccess = "{access}"')
        pull(daemon.blob(image.layer.digest), {"User-Agent": 'evil" 200 1\\'})
        path, size = re.escape(f"/v2/library/app/blobs/{image.layer.digest}"), image.layer.size
        line = rf'^127\.0\.0\.1 - - \[[^]]+\] "GET {path} HTTP/1\.1" 200 {size} "-" "evil\\x22 200 1\\x5C"$'
        self.wait_until(lambda: re.search(line, access.read_text(), re.MULTILINE) is not None, what="a line")

        access.rename(access.with_suffix(".1"))
        pull(daemon.url + "/v2/absent?password=canary")
        daemon.stop()
        self.assertRegex(
            access.read_text(), r'^127\.0\.0\.1 .*"GET /v2/absent HTTP/1\.1" 404 \d+ "-" "[^"]*"\n$'
        )

    def test_checks(self) -> None:
        """/readyz has every documented check, and each is ok."""
        daemon = self.start_daemon()
        readiness = json.loads(pull(daemon.admin_url + "/readyz").body)
        names = ("store", "index", "disk", "listeners", "certificates", "configuration", "users")
        self.assertEqual(readiness, {"ready": True, "checks": dict.fromkeys(names, "ok")})
