"""A client that pushes with plain requests, and the fixture of tests of hosted repositories."""

import contextlib
import hashlib
import http.client
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST
from tests.integration.daemon import Daemon, Settings

OCTETS = "application/octet-stream"
EMPTY_CONFIG = b"{}"

NOWHERE = "http://127.0.0.1:9"
"""An upstream that refuses connections: hosted repositories need none."""

PUSHABLE = "[hosted]\npush_from_loopback = true\n"
"""The beginning of a configuration in which tests may push without logging in."""


@attrs.frozen
class Response:
    """A response of a registry."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)

    def header(self, name: str) -> str:
        """A header's value; empty if absent."""
        return self.headers.get(name.lower(), "")

    @property
    def document(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.document["errors"][0]["code"])


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of content."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def descriptor(
    content: bytes, media_type: str = OCTETS, algorithm: str = "sha256", **more: Any
) -> dict[str, Any]:
    """Return a descriptor of content."""
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content), **more}


def image(*layers: bytes, config: bytes = EMPTY_CONFIG, algorithm: str = "sha256", **more: Any) -> bytes:
    """Return an image manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json", algorithm),
        "layers": [descriptor(layer, algorithm=algorithm) for layer in layers],
    }
    return json.dumps(document | more).encode()


def index(*manifests: bytes, media_type: str = OCI_MANIFEST, **more: Any) -> bytes:
    """Return an image index."""
    descriptors = [descriptor(manifest, media_type) for manifest in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors} | more).encode()


@attrs.define(eq=False)
class Pusher:
    """A client that reuses its connection as long as the registry keeps it open."""

    port: int
    headers: dict[str, str] = attrs.field(factory=dict)
    _connection: http.client.HTTPConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Send a request and read its response; `_` in a header's name stands for `-`.

        A body that is an iterable is sent in chunks.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        is_chunked = body is not None and not isinstance(body, bytes)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(
                method, path, body=body, headers=self.headers | named, encode_chunked=is_chunked
            )
        if self._connection.sock is None:
            raise ConnectionResetError("reset before the request was sent")
        response = self._connection.getresponse()
        fields = {name.lower(): value for name, value in response.getheaders()}
        tags = response.headers.get_all("OCI-Tag") or []
        return Response(response.status, fields | {"oci-tag": ",".join(tags)}, response.read())

    def begin(self, repository: str) -> str:
        """Begin an upload and return its location."""
        response = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert response.status == 202, response
        return response.header("Location")

    def push_blob(self, repository: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob as docker does, and return its digest."""
        location, digest = self.begin(repository), digest_of(content, algorithm)
        response = self.request("PUT", f"{location}?digest={digest}", content, Content_Type=OCTETS)
        assert response.status == 201, response
        return digest

    def put(
        self, repository: str, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST
    ) -> Response:
        """Push a manifest."""
        return self.request(
            "PUT", f"/v2/{repository}/manifests/{reference}", manifest, Content_Type=media_type
        )

    def push_image(self, repository: str, tag: str, *layers: bytes, **more: Any) -> bytes:
        """Push an image with its blobs, and return its manifest."""
        for content in (EMPTY_CONFIG, *layers):
            self.push_blob(repository, content)
        manifest = image(*layers, **more)
        response = self.put(repository, tag, manifest)
        assert response.status == 201, response
        return manifest

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class HostedCase(SynchronousTestCase):
    """One daemon for all tests of a class, and a repository per test."""

    hosted: ClassVar[str] = PUSHABLE + 'repositories = ["conf/*"]\nupload_timeout = "2s"\n'
    daemon: ClassVar[Daemon]
    folder: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp(prefix="mirrord-", dir="/tmp"))
        cls.daemon = Daemon(cls.folder / "mirrord", Settings(NOWHERE, more=cls.hosted))
        cls.daemon.start()

    @classmethod
    def tearDownClass(cls) -> None:
        try:
            cls.daemon.stop()
        finally:
            cls.daemon.kill()
            shutil.rmtree(cls.folder, ignore_errors=True)

    def setUp(self) -> None:
        self.pusher = Pusher(self.daemon.port)
        self.addCleanup(self.pusher.close)
        self.addCleanup(lambda: self.assertEqual([], self.daemon.bad_lines()))
        self.repository = f"conf/{self.id().rpartition('.')[2].lower()}"

    def path(self, kind: str, reference: str) -> str:
        return f"/v2/{self.repository}/{kind}/{reference}"

    def assert_blob(self, content: bytes, algorithm: str = "sha256") -> None:
        """Check that GET and HEAD return the blob, byte for byte."""
        digest = digest_of(content, algorithm)
        for method, body in (("HEAD", b""), ("GET", content)):
            response = self.pusher.request(method, self.path("blobs", digest))
            self.assertEqual((200, body), (response.status, response.body))
            self.assertEqual(str(len(content)), response.header("Content-Length"))
            self.assertEqual(digest, response.header("Docker-Content-Digest"))

    def assert_manifest(
        self, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST, algorithm: str = "sha256"
    ) -> None:
        """Check that GET and HEAD return the manifest, byte for byte."""
        for method, body in (("HEAD", b""), ("GET", manifest)):
            response = self.pusher.request(method, self.path("manifests", reference))
            self.assertEqual((200, body), (response.status, response.body))
            self.assertEqual(media_type, response.header("Content-Type"))
            self.assertEqual(str(len(manifest)), response.header("Content-Length"))
            self.assertEqual(digest_of(manifest, algorithm), response.header("Docker-Content-Digest"))

    def assert_error(self, response: Response, status: int, code: str) -> None:
        self.assertEqual((status, code), (response.status, response.code))
