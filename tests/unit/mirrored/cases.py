"""A puller of blobs between a fake upstream, whose bodies the test lets come, and a fake store."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.aged_cache import AgedCache
from mirrord.mirrored.blobs import BlobDownloads
from mirrord.mirrored.cache_writer import CacheWriter
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    RegistryError,
    UpstreamRefused,
)
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.repository import BlobReader, BlobResult, BlobSizeResult
from tests.fakes.store import FakeRoom, MemoryBlobs, MemoryIndex, MemoryManifests
from tests.fakes.upstream import FakeUpstream

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
OTHER = RepositoryKey("docker.io", RepositoryName("team/other"))
CONTENT = bytes(range(200))


class PullBlobs(SynchronousTestCase):
    """A puller between a fake upstream, whose bodies the test lets come, and a fake store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.upstream = FakeUpstream()
        self.digest = self.upstream.add_blob(CONTENT)
        self.index = MemoryIndex()
        self.blobs = MemoryBlobs()
        self.room = FakeRoom()
        self.puller = BlobDownloads(
            upstreams={"docker.io": self.upstream},
            files=self.blobs,
            index=self.index,
            writer=CacheWriter(MemoryManifests(self.index), self.room),
            clock=self.clock,
            random=lambda: 1.0,
            corrupt=AgedCache(self.clock.seconds, 100),
        )
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """End what still runs; what hangs is answered first."""
        stopping = Deferred.fromCoroutine(self.puller.stop())
        self.upstream.failing = self.upstream.failing or UpstreamRefused("down")
        self.upstream.respond()
        self.clock.pump([10] * 10)
        self.successResultOf(stopping)

    def begin_open(
        self, source: RepositoryKey = UBUNTU, digest: Digest | None = None
    ) -> Deferred[BlobResult]:
        return Deferred.fromCoroutine(self.puller.open(source, digest or self.digest))

    def open_result(self, source: RepositoryKey = UBUNTU, digest: Digest | None = None) -> BlobResult:
        result = self.successResultOf(self.begin_open(source, digest))
        self.addCleanup(result.blob.close)
        return result

    def open(self, source: RepositoryKey = UBUNTU, digest: Digest | None = None) -> BlobReader:
        return self.open_result(source, digest).blob

    def failure(self, expected: type[RegistryError], source: RepositoryKey = UBUNTU) -> RegistryError:
        error = self.failureResultOf(self.begin_open(source), expected).value
        assert isinstance(error, RegistryError)
        return error

    def head(self, source: RepositoryKey = UBUNTU) -> BlobSizeResult:
        return self.successResultOf(Deferred.fromCoroutine(self.puller.head(source, self.digest)))

    def grown(self, blob: BlobReader, beyond: int) -> Deferred[int]:
        return Deferred.fromCoroutine(blob.grown(beyond))

    def finish(self, which: int = -1) -> None:
        self.upstream.bodies[which].finish()

    def link(self, source: RepositoryKey, size: int = len(CONTENT)) -> None:
        self.index.add_links(source, [Descriptor("layer", self.digest, size)])
