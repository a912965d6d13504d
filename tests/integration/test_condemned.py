"""A daemon that finds its index damaged refuses changes, ends with a failure, and has lost nothing."""

import json
import socket
import sqlite3
from contextlib import closing
from http.client import HTTPResponse
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon
from tests.integration.pushing import PUSHABLE, Pusher, digest_of

_CONTENT = b"a layer that is being pushed" * 1000


class CondemnedTests(MirrorCase):
    def test_a_damaged_page(self) -> None:
        """With a damaged page it is not ready, refuses a push with 503 and exits with 1; then it recovers."""
        mirrored = self.registry.put_image(MB)
        daemon = self.start_daemon(more=f'{PUSHABLE}repositories = ["team/*"]\n', drain_timeout="30s")
        pushed = {"v1": self.push(daemon, "v1")}
        self.assert_right(pull(daemon.manifest("latest")), mirrored.manifest)
        self.wait_until_settled(daemon)
        daemon.stop()
        daemon.start()
        pushed["v2"] = self.push(daemon, "v2")
        with closing(self.begin_push(daemon)) as push:
            self.damage(daemon, "links")
            self.wait_until(lambda: pull(daemon.manifest(mirrored.manifest.digest)).status == 503)
            problem = self.readiness(daemon)["index"]
            self.assertRegex(problem, "^.*damaged, until the next start rebuilds it.*$")
            push.sendall(_CONTENT[1000:])
            response = HTTPResponse(push)
            response.begin()
            self.assertEqual(503, response.status)
            self.assertEqual(["UNAVAILABLE"], [error["code"] for error in json.load(response)["errors"]])
        self.wait_until(lambda: daemon.status is not None, 60, "the end")
        self.assertEqual(1, daemon.status)
        self.assertEqual(1, daemon.log.count("the index is damaged: "), daemon.log)

        daemon.start()
        self.assertIn("rebuilt because an earlier run found it damaged", daemon.log)
        with urlopen(f"{daemon.admin_url}/readyz", timeout=10) as ready:
            self.assertEqual(200, ready.status)
        pusher = Pusher(daemon.port)
        for tag, manifest in pushed.items():
            self.assertEqual(manifest, pusher.request("GET", f"/v2/team/app/manifests/{tag}").body)
            blob = digest_of(tag.encode())
            self.assertEqual(tag.encode(), pusher.request("GET", f"/v2/team/app/blobs/{blob}").body)
        pusher.push_blob("team/app", _CONTENT)
        pusher.close()
        self.assert_right(pull(daemon.manifest("latest")), mirrored.manifest)

    def push(self, daemon: Daemon, tag: str) -> bytes:
        pusher = Pusher(daemon.port)
        try:
            return pusher.push_image("team/app", tag, tag.encode())
        finally:
            pusher.close()

    def begin_push(self, daemon: Daemon) -> socket.socket:
        """Send a part of the request that finishes an upload."""
        pusher = Pusher(daemon.port)
        location = pusher.begin("team/app")
        pusher.close()
        connection = socket.create_connection(("127.0.0.1", daemon.port), timeout=30)
        head = (
            f"PUT {location}?digest={digest_of(_CONTENT)} HTTP/1.1\r\nHost: mirror\r\n"
            f"Content-Length: {len(_CONTENT)}\r\nContent-Type: application/octet-stream\r\n\r\n"
        )
        connection.sendall(head.encode() + _CONTENT[:1000])
        session = daemon.store / "hosted" / "uploads" / location.rpartition("/")[2]
        self.wait_until(lambda: session.stat().st_size > 0, what="the first bytes")
        return connection

    def damage(self, daemon: Daemon, table: str) -> None:
        """Overwrite the first page of a table."""
        index = daemon.store / "index.sqlite"
        with closing(sqlite3.connect(f"{index.as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
            ((page,),) = connection.execute(query, (table,))
            ((size,),) = connection.execute("PRAGMA page_size")
        with index.open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(b"\xff" * size)

    def readiness(self, daemon: Daemon) -> dict[str, str]:
        """Return the checks of a daemon that is not ready."""
        with self.assertRaises(HTTPError) as refused:
            urlopen(f"{daemon.admin_url}/readyz", timeout=10)
        error = refused.exception
        with error:
            self.assertEqual(503, error.status)
            return dict(json.load(error)["checks"])
