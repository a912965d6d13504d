"""Tests of mirrord/admin/commands.py."""

import json
import os
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import attrs
from prometheus_client import CollectorRegistry
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.admin.commands import Commands
from mirrord.admin.operations import Operations
from mirrord.admin.results import (
    ContentFetched,
    Explanation,
    ListedRepository,
    ListedTag,
    ManifestPulled,
    VerificationProgress,
    document,
    encode,
)
from mirrord.admin.root import AdminRoot
from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import FreeSpace, GCLimits
from mirrord.http.site import MirrorSite
from mirrord.observe.events import Event
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Conflict, NameUnknown, UpstreamTimeout
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal
from tests.fakes.clock import ImmediateClock
from tests.fakes.logged import Logged
from tests.fakes.stores import TemporaryStore
from tests.fakes.wire import Client, Got, Wire

DIGEST = Digest.of(b"x")
UBUNTU = ImageReference.parse("ubuntu")
OWN = Platform("linux", "arm64", "v8")


@attrs.define(eq=False)
class FakeOperations:
    """Yields `events`, then raises `error`; waits for an event that is a Deferred."""

    collector: Collector
    events: list[Any] = attrs.field(factory=list)
    error: Exception | None = None
    calls: list[tuple[Any, ...]] = attrs.field(factory=list)
    yielded: int = 0
    is_closed: bool = False

    def all(self) -> Operations:
        fake: Any = self
        return Operations(
            lister=fake,
            remover=fake,
            collector=self.collector,
            puller=fake,
            verifier=fake,
            explainer=fake,
            is_hosted=lambda name: name.name == "team/app",
        )

    async def stream(self, *call: Any) -> AsyncGenerator[Any, None]:
        self.calls.append(call)
        try:
            for event in self.events:
                if isinstance(event, Deferred):
                    await event
                else:
                    self.yielded += 1
                    yield event
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True

    def list(self, pattern: str) -> AsyncGenerator[ListedRepository, None]:
        return self.stream("list", pattern)

    def pull(self, reference: ImageReference, platform: Platform | None) -> AsyncGenerator[Any, None]:
        return self.stream("pull", reference, platform)

    def verify(self) -> AsyncGenerator[Any, None]:
        return self.stream("verify")

    async def remove(self, reference: ImageReference) -> Removal:
        self.calls.append(("remove", reference))
        if self.error is not None:
            raise self.error
        return Removal(reference.key, ("1",), (str(DIGEST),), 7)

    async def explain(self, reference: ImageReference) -> Explanation:
        return Explanation(
            reference=reference, upstream=reference.registry, repository=reference.repository, is_known=False
        )


class CommandsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = TemporaryStore.of(self)
        clock = ImmediateClock()
        self.operations = FakeOperations(
            Collector(
                store=self.store.opened.eviction,
                limits=GCLimits(max_size=None, min_free=0, unused_for_seconds=50.0, partials_seconds=50.0),
                interval_seconds=60.0,
                clock=clock,
                wall_clock=clock.seconds,
                free=lambda: FreeSpace(1000),
                metrics=Metrics(),
                hosted=HostedSweeper(self.store.opened.hosted_gc, clock),
            )
        )
        self.commands = Commands(
            operations=self.operations.all, own_platform=OWN, socket=lambda: Path("/run/mirrord/command")
        )
        root = AdminRoot(CollectorRegistry(), {}, dict, self.commands)
        self.site = MirrorSite(Clock(), root)
        self.client = self.connect()

    def connect(self) -> Client:
        wire = Wire(peerAddress=UNIXAddress(None), lenient=True)
        wire.socket, other = socket.socketpair()
        for each in (wire.socket, other):
            self.addCleanup(each.close)
        return Client(self.site, wire)

    def command(self, path: str, method: str = "POST") -> Got:
        return self.client.get(path, method=method)

    def lines(self, got: Got) -> list[Any]:
        return [json.loads(line) for line in got.body.splitlines()]

    def test_lines(self) -> None:
        """A list is sent as one JSON value per line, and the connection stays usable."""
        listed = ListedTag(Tag("1"), DIGEST, 1.5, 2.5, is_held=True)
        self.operations.events = [
            ListedRepository(
                upstream="docker.io",
                repository=RepositoryName("library/x"),
                name="x",
                tags=(encode(document(listed)),) * 2,
                manifests=1,
                blobs=2,
                bytes=3,
                last_used=4.5,
            )
        ]
        got = self.client.get("/repositories?pattern=x*")

        self.assertEqual("application/x-ndjson", got.headers["content-type"])
        (line,) = self.lines(got)
        self.assertEqual(
            ("docker.io", "library/x", "x"), (line["upstream"], line["repository"], line["name"])
        )
        self.assertEqual((1, 2, 3, 4.5), (line["manifests"], line["blobs"], line["bytes"], line["last_used"]))
        tag = {"tag": "1", "digest": str(DIGEST), "checked_at": 1.5, "fresh_until": 2.5, "is_held": True}
        self.assertEqual([tag, tag], line["tags"])
        self.assertEqual([("list", "x*")], self.operations.calls)
        self.operations.events = []
        self.assertEqual(b"", self.client.get("/repositories").body)

    def test_events(self) -> None:
        """Each line of a stream begins with the event, and is sent when that happens."""
        pausing: Deferred[None] = Deferred()
        self.operations.events = [ManifestPulled(DIGEST, OWN), pausing, ContentFetched(DIGEST)]
        self.client.send(b"POST /verify HTTP/1.1\r\nHost: mirror\r\n\r\n")
        self.assertIn(
            b'{"event":"manifest","digest":"%b","platform":"linux/arm64/v8"}\n' % str(DIGEST).encode(),
            self.client.wire.value(),
        )
        self.assertNotIn(b"fetched", self.client.wire.value())

        pausing.callback(None)
        self.assertEqual({"event": "fetched", "digest": str(DIGEST)}, self.lines(self.client.got())[-1])

    def test_old_client(self) -> None:
        """A client of HTTP/1.0 receives plain lines, up to the end of the connection."""
        self.operations.events = [ContentFetched(DIGEST)]
        self.client.send(b"POST /verify HTTP/1.0\r\n\r\n")
        self.assertEqual(1, len(self.lines(self.client.got())))
        self.assertTrue(self.client.wire.disconnecting)

    def test_platform(self) -> None:
        """An image is pulled for this host, for another platform, or for all."""
        self.operations.events = [ContentFetched(DIGEST)]
        for query, platform in {
            "": OWN,
            "&platform=linux/amd64": Platform("linux", "amd64"),
            "&platform=linux%2Farm%2Fv7": Platform("linux", "arm", "v7"),
            "&platform=all": None,
        }.items():
            self.command(f"/pull?reference=ubuntu{query}")
            self.assertEqual(("pull", UBUNTU, platform), self.operations.calls[-1])

    def test_documents(self) -> None:
        """The other commands respond with one document."""
        removal = json.loads(self.command("/repositories?reference=ubuntu:1", "DELETE").body)
        self.assertEqual(
            {"removed": [{"reference": "ubuntu:1"}, {"digest": str(DIGEST)}], "bytes": 7}, removal
        )
        hosted = dict.fromkeys(("tags", "manifests", "blobs", "uploads", "entries", "bytes"), 0)
        victim = {"kind": "blob", "name": str(DIGEST), "bytes": 4096, "idle_seconds": 99.0}
        for query, is_dry_run in {"?dry_run=1": True, "": False, "?dry_run=0": False}.items():
            if not self.store.has(DIGEST):
                self.store.add_blob(b"x")
                self.store.clock.advance(99.0)
            victims = [victim] if is_dry_run else []
            swept = {"is_dry_run": is_dry_run, "entries": 1, "bytes": 4096, "victims": victims}
            self.assertEqual(
                swept | {"hosted": hosted | {"victims": []}}, json.loads(self.command(f"/sweep{query}").body)
            )
            self.assertEqual(is_dry_run, self.store.has(DIGEST))
        why = json.loads(self.client.get("/why?reference=ubuntu").body)
        self.assertEqual(
            ("ubuntu", False, None, []), (why["reference"], why["is_known"], why["tag"], why["blobs"])
        )

    def test_failure_before_a_line(self) -> None:
        """A command that fails at once responds with an error and its status; the log has the cause."""
        logged = Logged.during(self, "mirrord.observe.disk_errors")
        for error, status in {
            NameUnknown("no"): 404,
            Conflict("runs already"): 409,
            UpstreamTimeout("silent"): 504,
            OSError("secret path"): 503,
        }.items():
            self.operations.error = error
            for got in (self.command("/verify"), self.command("/repositories?reference=x", "DELETE")):
                self.assertEqual(status, got.status)
                self.assertNotIn(b"secret", got.body)
        self.assertEqual(1, len([line for line in logged.messages if line.endswith(": secret path")]))

    def test_failure_after_a_line(self) -> None:
        """A command that fails later ends with a line that has the message of the error."""
        self.operations.events = [ContentFetched(DIGEST)]
        for error, message, code in (
            (UpstreamTimeout("silent"), "silent", "UNAVAILABLE"),
            (OSError("secret path"), "the mirror's disk failed", "UNAVAILABLE"),
        ):
            self.operations.error = error
            line = self.lines(self.command("/pull?reference=x"))[-1]
            self.assertEqual({"event": "failed", "message": message, "code": code}, line)

    def test_bug(self) -> None:
        """A bug before the first line is a 500 without details; after it, the response ends short."""
        self.operations.error = ZeroDivisionError("inside")
        self.assertEqual(500, self.command("/verify").status)
        self.operations.events = [ContentFetched(DIGEST)]
        self.client.wire.clear()
        self.client.send(b"POST /verify HTTP/1.1\r\nHost: mirror\r\n\r\n")

        self.assertNotIn(b"\r\n0\r\n", self.client.wire.value())
        self.assertTrue(self.client.wire.disconnecting)
        self.assertEqual(2, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_invalid(self) -> None:
        """An invalid command is rejected before anything is done."""
        for path, method, status in (
            ("/why?reference=Ubuntu", "GET", 400),
            ("/why", "GET", 400),
            ("/pull?reference=x&platform=pdp", "POST", 400),
            ("/why?reference=%ff", "GET", 400),
            ("/why?" + "a=b&" * 20, "GET", 400),
            ("/repositories", "POST", 405),
            ("/verify", "GET", 405),
            ("/sweep", "HEAD", 405),
        ):
            self.assertEqual(status, self.command(path, method).status, path)
        self.assertEqual([], self.operations.calls)

    def test_log(self) -> None:
        """Each command is logged with the user and the process that have sent it."""
        logged = Logged.during(self, "mirrord.admin.commands")
        self.client.get("/why?reference=ubuntu")
        (entry,) = logged.entries
        self.assertEqual(Event.COMMANDED, entry.event)
        self.assertEqual({"uid": os.getuid(), "pid": os.getpid()}, entry.fields)
        self.assertTrue(entry.message.endswith(": GET /why?reference=ubuntu"), entry.message)

    def test_tcp(self) -> None:
        """Every command that does not come over a Unix socket is rejected."""
        self.client = Client(self.site)
        for path, resource in self.commands.resources().items():
            for method in resource.methods:
                self.assertEqual(403, self.command(f"/{path.decode()}", method.decode()).status)
        self.assertEqual([], self.operations.calls)

    def test_disconnect(self) -> None:
        """A stream is closed when its client disconnects."""
        self.operations.events = [ContentFetched(DIGEST), Deferred()]
        self.client.send(b"POST /verify HTTP/1.1\r\nHost: mirror\r\n\r\n")
        self.assertFalse(self.operations.is_closed)
        self.client.leave()
        self.assertTrue(self.operations.is_closed)

    def test_stop(self) -> None:
        """Stopping closes the running streams; their responses end short."""
        self.operations.events = [ContentFetched(DIGEST), Deferred()]
        self.client.send(b"POST /verify HTTP/1.1\r\nHost: mirror\r\n\r\n")
        self.commands.stop()
        self.assertTrue(self.operations.is_closed)
        self.assertTrue(self.client.wire.disconnecting)

    def test_slow_reader(self) -> None:
        """A stream is not advanced while its client reads nothing."""
        self.operations.events = [
            VerificationProgress(bytes=number, of_bytes=1, entries=1, of_entries=1)
            for number in range(10_000)
        ]
        wire = self.client.wire
        written = wire.writeSequence

        def write(pieces: list[bytes]) -> None:
            written(pieces)
            wire.producer.pauseProducing()

        wire.writeSequence = write
        self.client.send(b"POST /verify HTTP/1.1\r\nHost: mirror\r\n\r\n")
        self.assertEqual(1, self.operations.yielded)

        wire.producer.resumeProducing()
        self.assertEqual(2, self.operations.yielded)
        self.client.leave()

    def test_document(self) -> None:
        """A document has the fields of the value in their order, the event first."""
        self.assertEqual(
            ["event", "bytes", "of_bytes", "entries", "of_entries"],
            list(document(VerificationProgress(bytes=1, of_bytes=2, entries=3, of_entries=4))),
        )
