import json
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.listener_checks import ProbeFailed, PullProbe
from mirrord.oci.digest import Digest


@attrs.frozen
class ProbeResponse:
    status: int
    body: bytes
    digest: str

    def read(self, _max_bytes: int) -> bytes:
        return self.body

    def getheader(self, _name: str, _default: str) -> str:
        return self.digest


@attrs.define(eq=False)
class Mirror:
    """An HTTP connection to a mirror with one repository; paths in `corrupt` have wrong content."""

    responses: dict[str, bytes] = attrs.field(factory=dict)
    corrupt: set[str] = attrs.field(factory=set)
    requests: list[str] = attrs.field(factory=list)

    def put(self, kind: str, content: bytes, tag: str = "") -> dict[str, Any]:
        digest = str(Digest.of(content))
        self.responses[f"/v2/a/b/{kind}/{digest}"] = content
        if tag:
            self.responses[f"/v2/a/b/{kind}/{tag}"] = content
        return {"digest": digest, "size": len(content)}

    def put_image(self, tag: str = "", **described: object) -> dict[str, Any]:
        config, layer = self.put("blobs", b"{}"), self.put("blobs", b"x" * 1000)
        manifest = json.dumps({"config": config, "layers": [layer], **described}).encode()
        return self.put("manifests", manifest, tag)

    def request(self, method: str, target: str, headers: object) -> None:
        self.requests.append(f"{method} {target}")

    def getresponse(self) -> ProbeResponse:
        path = urlsplit(self.requests[-1].partition(" ")[2]).path
        if path not in self.responses:
            return ProbeResponse(404, b'{"errors": [{"message": "no such thing"}]}', "")
        body = self.responses[path]
        return ProbeResponse(200, body[:-1] + b"!" if path in self.corrupt else body, str(Digest.of(body)))


class PullProbeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mirror = Mirror()
        connection: Any = self.mirror
        self.probe = PullProbe(connection, "a/b", "quay.io")

    def assert_fails(self, reason: str) -> None:
        with self.assertRaises(ProbeFailed) as caught:
            self.probe.pull("1")
        self.assertIn(reason, str(caught.exception))

    def test_pull(self) -> None:
        """The smallest blob of a manifest is pulled, from the given upstream."""
        self.mirror.put_image("1")
        self.assertEqual(self.probe.pull("1"), 2)
        self.assertEqual(self.mirror.requests[0], "GET /v2/a/b/manifests/1?ns=quay.io")
        self.assertEqual(len(self.mirror.requests), 2)

    def test_index(self) -> None:
        """One manifest of an index is pulled, by its digest."""
        child = self.mirror.put_image()
        self.mirror.put("manifests", json.dumps({"manifests": [child]}).encode(), "1")
        self.assertEqual(self.probe.pull("1"), 2)
        self.assertIn(f"/manifests/{child['digest']}", self.mirror.requests[1])

    def test_corrupt(self) -> None:
        """A manifest or a blob that does not match its digest fails the probe."""
        self.mirror.put_image("1")
        for path in list(self.mirror.responses):
            if len(self.mirror.responses[path]) != 1000 and not ("manifests" in path and ":" in path):
                self.mirror.corrupt = {path}
                self.assert_fails("does not match")

    def test_error(self) -> None:
        """An error response fails the probe with the mirror's message."""
        self.assert_fails("404 no such thing for manifests/1")

    def test_invalid_manifests(self) -> None:
        """A manifest that is invalid or lists no blobs fails the probe."""
        for body, reason in (
            (b"[]", "not a JSON object"),
            (b"{", "not JSON"),
            (b"{}", "lists no blobs"),
            (
                b'{"config": {"digest": "%b", "size": "many"}}' % str(Digest.of(b"")).encode(),
                "lists no blobs",
            ),
            (b'{"config": {"size": %b}}' % (b"9" * 5000), "not JSON"),
        ):
            self.mirror.put("manifests", body, "1")
            self.assert_fails(reason)
