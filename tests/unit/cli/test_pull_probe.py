import json
from typing import Any
from urllib.parse import urlsplit

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.cli.pull_probe import ProbeFailed, PullProbe
from mirrord.oci.digest import Digest


@attrs.frozen
class Answer:
    status: int
    body: bytes
    digest: str

    def read(self, _max_bytes: int) -> bytes:
        return self.body

    def getheader(self, _name: str, _default: str) -> str:
        return self.digest


@attrs.define(eq=False)
class Mirror:
    """An HTTP connection to a mirror with one repository; `wrong` are paths whose content has rotted."""

    answers: dict[str, bytes] = attrs.field(factory=dict)
    wrong: set[str] = attrs.field(factory=set)
    asked: list[str] = attrs.field(factory=list)

    def put(self, kind: str, content: bytes, tag: str = "") -> dict[str, Any]:
        digest = str(Digest.of(content))
        self.answers[f"/v2/a/b/{kind}/{digest}"] = content
        if tag:
            self.answers[f"/v2/a/b/{kind}/{tag}"] = content
        return {"digest": digest, "size": len(content)}

    def put_image(self, tag: str = "", **described: object) -> dict[str, Any]:
        config, layer = self.put("blobs", b"{}"), self.put("blobs", b"x" * 1000)
        manifest = json.dumps({"config": config, "layers": [layer], **described}).encode()
        return self.put("manifests", manifest, tag)

    def request(self, method: str, target: str, headers: object) -> None:
        self.asked.append(f"{method} {target}")

    def getresponse(self) -> Answer:
        path = urlsplit(self.asked[-1].partition(" ")[2]).path
        if path not in self.answers:
            return Answer(404, b'{"errors": [{"message": "no such thing"}]}', "")
        body = self.answers[path]
        return Answer(200, body[:-1] + b"!" if path in self.wrong else body, str(Digest.of(body)))


class ProofTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.mirror = Mirror()
        connection: Any = self.mirror
        self.proof = PullProbe(connection, "a/b", "quay.io")

    def assert_unproven(self, reason: str) -> None:
        with self.assertRaises(ProbeFailed) as caught:
            self.proof.pull("1")
        self.assertIn(reason, str(caught.exception))

    def test_pull(self) -> None:
        """The smallest blob of a manifest is pulled, from the upstream that is meant."""
        self.mirror.put_image("1")
        self.assertEqual(self.proof.pull("1"), 2)
        self.assertEqual(self.mirror.asked[0], "GET /v2/a/b/manifests/1?ns=quay.io")
        self.assertEqual(len(self.mirror.asked), 2)

    def test_index(self) -> None:
        """Of an index one manifest is pulled, by its digest."""
        child = self.mirror.put_image()
        self.mirror.put("manifests", json.dumps({"manifests": [child]}).encode(), "1")
        self.assertEqual(self.proof.pull("1"), 2)
        self.assertIn(f"/manifests/{child['digest']}", self.mirror.asked[1])

    def test_wrong_bytes(self) -> None:
        """A manifest or a blob that is not what its digest says proves nothing."""
        self.mirror.put_image("1")
        for path in list(self.mirror.answers):
            if len(self.mirror.answers[path]) != 1000 and not ("manifests" in path and ":" in path):
                self.mirror.wrong = {path}
                self.assert_unproven("what came is not")

    def test_refusal(self) -> None:
        """What is refused proves nothing; the mirror's reason is told."""
        self.assert_unproven("404 no such thing for manifests/1")

    def test_strange_manifests(self) -> None:
        """A manifest that is none, or names no blob, proves nothing."""
        for body, reason in ((b"[]", "no JSON object"), (b"{", "no JSON object"), (b"{}", "names no blob")):
            self.mirror.put("manifests", body, "1")
            self.assert_unproven(reason)
