"""Tests of mirrord/api/request_log.py."""

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mirrord.observe.events import Event
from mirrord.observe.log_entry import LogEntry
from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamBusy
from tests.fakes.logged import Logged
from tests.fakes.wire import head
from tests.unit.api.cases import APICase

CLIENT = "192.168.1.1"
MANIFEST = "/v2/library/x/manifests/latest"
BODY = b'{"a":1}'


class RequestLogTests(APICase):
    def setUp(self) -> None:
        super().setUp()
        self.logged = Logged.during(self, "mirrord.api.request_log")
        self.digest = self.repositories.add_manifest(BODY, "latest").digest

    def entry(self) -> LogEntry:
        (entry,) = self.logged.entries
        return entry

    def counted_bytes(self, kind: str, outcome: str) -> float | None:
        labels = {"upstream": "docker.io", "kind": kind, "outcome": outcome}
        return self.metrics.registry.get_sample_value("mirrord_answered_bytes_total", labels)

    def test_pull(self) -> None:
        """The GET of a manifest is logged at info, with all fields."""
        self.get(MANIFEST)

        entry = self.entry()
        self.assertEqual(("info", Event.PULLED), (entry.level, entry.event))
        self.assertEqual(
            f"pulled docker.io/library/x:latest for {CLIENT}: hit, 7 bytes in 0.000 s", entry.message
        )
        self.assertEqual(
            {
                "repository": "library/x",
                "reference": "latest",
                "digest": str(self.digest),
                "upstream": "docker.io",
                "outcome": "hit",
                "client": CLIENT,
                "status": 200,
                "bytes": 7,
                "seconds": 0.0,
            },
            entry.fields,
        )
        self.assertEqual(7.0, self.counted_bytes("manifest", "hit"))
        self.assertEqual(1, self.metrics.saved.pulls)

    def test_by_digest(self) -> None:
        """A pull by digest is logged with the reference that docker uses."""
        self.repositories.add_manifest(BODY, str(self.digest))
        self.get(f"/v2/library/x/manifests/{self.digest}")
        self.assertIn(f"pulled docker.io/library/x@{self.digest} for", self.entry().message)

    def test_debug(self) -> None:
        """A HEAD, a blob and a list are logged at debug, and are not pulls."""
        blob, _ = self.repositories.add_blob(b"blob")
        self.get(MANIFEST, method="HEAD")
        self.get(f"/v2/library/x/blobs/{blob}")
        self.get("/v2/library/x/tags/list")

        self.assertEqual([("debug", Event.ANSWERED)] * 3, [(e.level, e.event) for e in self.logged.entries])
        first, second, third = self.logged.messages
        self.assertIn("HEAD manifest docker.io/library/x:latest for", first)
        self.assertIn(f"GET blob docker.io/library/x@{blob} for {CLIENT}: hit, 4 bytes", second)
        self.assertIn("GET tags docker.io/library/x for", third)
        self.assertEqual(str(blob), self.logged.entries[1].fields["digest"])
        self.assertNotIn("digest", self.logged.entries[2].fields)
        self.assertEqual(0, self.metrics.saved.pulls)

    def test_error(self) -> None:
        """A failed pull is logged once, with the error."""
        self.repositories.error = UpstreamBusy("over its limit")
        self.get(MANIFEST)

        entry = self.entry()
        self.assertIn("not pulled docker.io/library/x:latest for", entry.message)
        self.assertIn(": 429, over its limit, ", entry.message)
        self.assertEqual(("error", 429), (entry.fields["outcome"], entry.fields["status"]))
        self.assertEqual(self.counted_bytes("manifest", "error"), entry.fields["bytes"])

    def test_disconnect(self) -> None:
        """A client that disconnects before the response is logged as such, and not counted."""
        self.repositories.pause = Deferred()
        self.client.send(head(MANIFEST))
        cast("Clock", self.site.reactor).advance(2.5)
        self.client.leave()

        entry = self.entry()
        self.assertIn(
            f"not pulled docker.io/library/x:latest for {CLIENT}: left, 0 bytes in 2.5", entry.message
        )
        self.assertNotIn("status", entry.fields)
        self.assertEqual(2.5, entry.fields["seconds"])
        self.assertEqual(0.0, self.counted("manifest", "error"))

    def test_aborted(self) -> None:
        """An aborted response is logged and counted with the bytes that were sent."""
        digest, _ = self.repositories.add_blob(b"0123456789", readable=4)
        self.client.send(head(f"/v2/library/x/blobs/{digest}"))
        self.assertEqual([], self.logged.entries)
        self.client.leave()

        entry = self.entry()
        self.assertIn(": hit, aborted, 4 bytes", entry.message)
        self.assertEqual((200, 4), (entry.fields["status"], entry.fields["bytes"]))
        self.assertEqual(4.0, self.counted_bytes("blob", "hit"))

    def test_aborted_pull(self) -> None:
        """An aborted pull is logged once, and does not count as saved traffic."""
        self.repositories.add_manifest(b"x" * 1_000_000, "large")
        self.wire.taking = False
        self.client.send(head("/v2/library/x/manifests/large"))
        self.client.leave()
        self.assertIn(": hit, aborted, ", self.entry().message)
        self.assertEqual(0, self.metrics.saved.pulls)

    def test_drained(self) -> None:
        """A pull that is aborted by the drain does not count as an error."""
        self.repositories.pause = Deferred()
        self.client.send(head(MANIFEST))
        self.site.abort_connections()
        self.client.leave()
        self.assertEqual("left", self.entry().fields["outcome"])
        self.assertEqual(0.0, self.counted("manifest", "error"))

    def test_not_debugging(self) -> None:
        """Unless debug is logged, only pulls are; the rest is counted."""
        self.is_debugging = False
        self.get(MANIFEST, method="HEAD")
        self.assertEqual([], self.logged.entries)
        self.assertEqual(1.0, self.counted("manifest", "hit"))
        self.get(MANIFEST)
        self.assertEqual(Event.PULLED, self.entry().event)

    def test_ping(self) -> None:
        """A request without a repository is not logged."""
        self.get("/v2/")
        self.get("/v2/_catalog")
        self.get(f"/v2/x/blobs/{Digest.of(b'')}", method="PUT")
        self.assertEqual([], self.logged.entries)
