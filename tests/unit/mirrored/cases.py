"""The base class of the tests of downloads."""

import json
from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.manifests import Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import BlobReader, BlobResult, BlobSizeResult
from tests.fakes.repositories import Repositories
from tests.fakes.stores import TemporaryStore

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
OTHER = RepositoryKey("docker.io", RepositoryName("team/other"))
CONTENT = bytes(range(200))


class DownloadCase(SynchronousTestCase):
    """Downloads from a fake upstream, whose bodies the test sends, to a real store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.store = TemporaryStore.of(self)
        self.threads = self.store.threads
        self.repositories = Repositories(case=self, store=self.store, clock=self.clock)
        self.space = self.repositories.space
        self.downloads = self.repositories.downloads
        self.upstream = self.repositories.hub
        self.digest = self.upstream.add_blob(CONTENT)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        return Deferred.fromCoroutine(coroutine)

    def begin_open(self, key: RepositoryKey = UBUNTU, digest: Digest | None = None) -> Deferred[BlobResult]:
        return self.begin(self.downloads.open(key, digest or self.digest))

    def open_result(self, key: RepositoryKey = UBUNTU, digest: Digest | None = None) -> BlobResult:
        result = self.successResultOf(self.begin_open(key, digest))
        self.addCleanup(result.blob.close)
        return result

    def open(self, key: RepositoryKey = UBUNTU, digest: Digest | None = None) -> BlobReader:
        return self.open_result(key, digest).blob

    def failure(self, expected: type[RegistryError], key: RepositoryKey = UBUNTU) -> RegistryError:
        error = self.failureResultOf(self.begin_open(key), expected).value
        assert isinstance(error, RegistryError)
        return error

    def head(self, key: RepositoryKey = UBUNTU) -> BlobSizeResult:
        return self.successResultOf(self.begin(self.downloads.head(key, self.digest)))

    def grown(self, blob: BlobReader, beyond: int) -> Deferred[int]:
        return self.begin(blob.grown(beyond))

    def finish(self, which: int = -1) -> None:
        self.upstream.bodies[which].finish()

    def link(self, key: RepositoryKey, size: int = len(CONTENT)) -> None:
        self.store.link(key, Descriptor("layer", self.digest, size))

    def hint(self, key: RepositoryKey) -> None:
        """Let a manifest of the repository reference the blob."""
        blob = {"mediaType": "layer", "digest": str(self.digest), "size": len(CONTENT)}
        self.repositories.hints.add(key, Manifest.parse(json.dumps({"layers": [blob]}).encode(), None))

    def assert_committed(self) -> None:
        self.assertEqual(CONTENT, self.store.blob(self.digest))

    def assert_absent(self) -> None:
        """Check that neither a blob nor a partial is left."""
        self.assertEqual((False, None), (self.store.has(self.digest), self.store.partial(self.digest)))
