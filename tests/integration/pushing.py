"""A client that pushes, by raw requests, and a daemon with hosted repositories that tests share."""

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
"""An upstream that nobody answers for: what is hosted needs none."""


@attrs.frozen
class Said:
    """What a registry answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)

    def header(self, name: str) -> str:
        """A header's value; empty if absent."""
        return self.headers.get(name.lower(), "")

    @property
    def document(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the first error."""
        return str(self.document["errors"][0]["code"])


def digest_of(content: bytes, algorithm: str = "sha256") -> str:
    """The digest of content."""
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


def descriptor(
    content: bytes, media_type: str = OCTETS, algorithm: str = "sha256", **more: Any
) -> dict[str, Any]:
    """What a manifest says of content."""
    return {"mediaType": media_type, "digest": digest_of(content, algorithm), "size": len(content), **more}


def image(*layers: bytes, config: bytes = EMPTY_CONFIG, algorithm: str = "sha256", **more: Any) -> bytes:
    """An image manifest."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(config, "application/vnd.oci.image.config.v1+json", algorithm),
        "layers": [descriptor(layer, algorithm=algorithm) for layer in layers],
    }
    return json.dumps(document | more).encode()


def index(*manifests: bytes, media_type: str = OCI_MANIFEST, **more: Any) -> bytes:
    """An image index."""
    listed = [descriptor(manifest, media_type) for manifest in manifests]
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed} | more).encode()


@attrs.define(eq=False)
class Pusher:
    """A client of one registry, on one connection as long as the registry keeps it."""

    port: int
    headers: dict[str, str] = attrs.field(factory=dict)
    _connection: http.client.HTTPConnection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Said:
        """Send a request, and read its answer; `_` in a header's name stands for `-`.

        A body that is an iterable goes in chunks.
        """
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        is_chunked = body is not None and not isinstance(body, bytes)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.request(
                method, path, body=body, headers=self.headers | named, encode_chunked=is_chunked
            )
        response = self._connection.getresponse()
        got = {name.lower(): value for name, value in response.getheaders()}
        tags = response.headers.get_all("OCI-Tag") or []
        return Said(response.status, got | {"oci-tag": ",".join(tags)}, response.read())

    def begin(self, repository: str) -> str:
        """Begin an upload; gives its location."""
        said = self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert said.status == 202, said
        return said.header("Location")

    def push_blob(self, repository: str, content: bytes, algorithm: str = "sha256") -> str:
        """Push a blob as docker does; gives its digest."""
        location, digest = self.begin(repository), digest_of(content, algorithm)
        said = self.ask("PUT", f"{location}?digest={digest}", content, Content_Type=OCTETS)
        assert said.status == 201, said
        return digest

    def put(self, repository: str, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST) -> Said:
        """Push a manifest."""
        return self.ask("PUT", f"/v2/{repository}/manifests/{reference}", manifest, Content_Type=media_type)

    def push_image(self, repository: str, tag: str, *layers: bytes, **more: Any) -> bytes:
        """Push an image with all that it names; gives its manifest."""
        for content in (EMPTY_CONFIG, *layers):
            self.push_blob(repository, content)
        manifest = image(*layers, **more)
        said = self.put(repository, tag, manifest)
        assert said.status == 201, said
        return manifest

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


class HostedCase(SynchronousTestCase):
    """One daemon for all tests of a class, and for each a repository of its own."""

    hosted: ClassVar[str] = '[hosted]\nrepositories = ["conf/*"]\nupload_timeout = "2s"\n'
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
        """The repository has the blob, byte for byte, by GET and by HEAD."""
        digest = digest_of(content, algorithm)
        for method, body in (("HEAD", b""), ("GET", content)):
            said = self.pusher.ask(method, self.path("blobs", digest))
            self.assertEqual((200, body), (said.status, said.body))
            self.assertEqual(str(len(content)), said.header("Content-Length"))
            self.assertEqual(digest, said.header("Docker-Content-Digest"))

    def assert_manifest(
        self, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST, algorithm: str = "sha256"
    ) -> None:
        """The repository has the manifest, byte for byte, by GET and by HEAD."""
        for method, body in (("HEAD", b""), ("GET", manifest)):
            said = self.pusher.ask(method, self.path("manifests", reference))
            self.assertEqual((200, body), (said.status, said.body))
            self.assertEqual(media_type, said.header("Content-Type"))
            self.assertEqual(str(len(manifest)), said.header("Content-Length"))
            self.assertEqual(digest_of(manifest, algorithm), said.header("Docker-Content-Digest"))

    def assert_error(self, said: Said, status: int, code: str) -> None:
        self.assertEqual((status, code), (said.status, said.code))
