"""Tests of mirrord/admin/root.py."""

import json
from pathlib import Path
from unittest.mock import Mock

from prometheus_client import CollectorRegistry, Counter
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import IResource
from zope.interface.verify import verifyObject

from mirrord.admin.commands import Commands
from mirrord.admin.operations import Operations
from mirrord.admin.root import AdminRoot
from mirrord.http.site import MirrorSite
from mirrord.oci.platforms import Platform
from tests.fakes.wire import Client, Wire, read_answers


class AdminRootTests(SynchronousTestCase):
    def setUp(self) -> None:
        registry = CollectorRegistry()
        self.find_problem = Mock(return_value=None)
        Counter("mirrord_things", "Things.", registry=registry).inc(3)
        self.root = AdminRoot(
            registry,
            {"disk": self.find_problem, "ports": lambda: None},
            lambda: {"version": "1.2", "uptime_seconds": self.uptime()},
            Commands(
                operations=self.operations,
                own_platform=Platform("linux", "amd64"),
                socket=lambda: Path("/run/mirrord/command"),
            ),
        )
        self.client = Client(MirrorSite(Clock(), self.root))

    def operations(self) -> Operations:
        raise NotImplementedError("no test here uses a command")

    def uptime(self) -> float:
        return 1.5

    def test_metrics(self) -> None:
        """Metrics are sent in the format that the scraper accepts."""
        plain = self.client.get("/metrics")
        self.assertIn(b"\nmirrord_things_total 3.0\n", plain.body)
        self.assertTrue(plain.headers["content-type"].startswith("text/plain"))

        odd = self.client.get("/metrics", "Accept: application/openmetrics-text; version=new")
        self.assertEqual((200, plain.headers["content-type"]), (odd.status, odd.headers["content-type"]))
        modern = self.client.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        self.assertTrue(modern.body.endswith(b"# EOF\n"))
        self.assertTrue(modern.headers["content-type"].startswith("application/openmetrics-text"))

    def test_health(self) -> None:
        """A response shows that the reactor is running."""
        got = self.client.get("/healthz")

        self.assertEqual((200, b"ok\n"), (got.status, got.body))

    def test_ready(self) -> None:
        """All checks are listed; one that fails makes it a 503."""
        got = self.client.get("/readyz")
        well = {"ready": True, "checks": {"disk": "ok", "ports": "ok"}}
        self.assertEqual((200, well), (got.status, json.loads(got.body)))

        self.find_problem.return_value = "full"
        got = self.client.get("/readyz?verbose")
        unwell = {"ready": False, "checks": {"disk": "full", "ports": "ok"}}
        self.assertEqual((503, unwell), (got.status, json.loads(got.body)))

    def test_failing_check(self) -> None:
        """An exception in a check is a problem, named by its type only."""
        self.find_problem.side_effect = OSError(28, "No space left", "/secret/path")
        got = self.client.get("/readyz")
        unwell = {"ready": False, "checks": {"disk": "OSError", "ports": "ok"}}
        self.assertEqual((503, unwell), (got.status, json.loads(got.body)))

    def test_status(self) -> None:
        """The status is computed for each request."""
        self.assertEqual(1.5, json.loads(self.client.get("/status").body)["uptime_seconds"])

        self.uptime = lambda: 2.5  # type: ignore[method-assign]
        self.assertEqual(2.5, json.loads(self.client.get("/status").body)["uptime_seconds"])

    def test_status_under_another_name(self) -> None:
        """A web page in a browser of this host, under a name of its own, cannot read the status."""
        wire = Wire(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000), lenient=True)
        client = Client(self.client.site, wire)
        client.send(b"GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        client.send(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        client.send(b"GET /status HTTP/1.1\r\nHost: localhost:5001\r\n\r\n")
        self.assertEqual([403, 200, 200], [got.status for got in read_answers(wire.value())])

    def test_other_paths(self) -> None:
        """Other paths are unknown, and the pages are read-only."""
        self.assertEqual(404, self.client.get("/v2/").status)
        self.assertEqual(404, self.client.get("/").status)
        self.assertEqual(405, self.client.get("/metrics", method="DELETE").status)

    def test_commands(self) -> None:
        """Every command over TCP is refused with 403, and the answer names the socket that accepts it."""
        for method, path in (
            ("GET", "/repositories"),
            ("DELETE", "/repositories?reference=team/app"),
            ("POST", "/sweep"),
            ("POST", "/pull?reference=app"),
            ("POST", "/verify"),
            ("GET", "/why?reference=app"),
            ("PUT", "/sweep"),
        ):
            for headers in ((), ("Mirrord-Command: 1",), ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=1")):
                got = self.client.get(path, *headers, method=method)
                self.assertEqual(403, got.status, path)
                self.assertIn(b"at the Unix socket /run/mirrord/command only", got.body)

    def test_bug(self) -> None:
        """A bug is a 500 without details, which are in the log."""
        self.uptime = lambda: 1 // 0  # type: ignore[method-assign]

        got = self.client.get("/status")

        self.assertEqual(500, got.status)
        self.assertEqual("UNKNOWN", json.loads(got.body)["errors"][0]["code"])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_resources(self) -> None:
        """Every child of the root is a resource, and nothing is below one."""
        root = self.root
        verifyObject(IResource, root)
        names = set()
        for name, child in root.listStaticEntities():
            verifyObject(IResource, child)
            names.add(name.decode())
            for path in (f"/{name.decode()}/", f"/{name.decode()}/metrics", f"/x/{name.decode()}"):
                got = self.client.get(path)
                self.assertEqual((404, "application/json"), (got.status, got.headers["content-type"]), path)
        commands = {"repositories", "sweep", "pull", "verify", "why"}
        self.assertEqual({"metrics", "healthz", "readyz", "status"} | commands, names)
