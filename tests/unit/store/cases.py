"""Test cases with a store in a folder of its own, a clock that the test advances and inline threads."""

import contextlib
import os
from collections.abc import Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, TaskFinished
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.oci.referrer import Referrer
from mirrord.store.layout import Layout
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
DEBIAN = RepositoryKey("docker.io", RepositoryName("library/debian"))
LATEST = Tag("latest")
APP, WEB = RepositoryName("team/app"), RepositoryName("team/web")
V1, V2 = Tag("v1"), Tag("v2")


class StoreTestCase(SynchronousTestCase):
    """Opens `self.store` in `self.root`; `reopen` is a restart, `kill` is kill -9."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wall = Clock()
        self.threads = InlineThreads()
        self.root = Path(self.mktemp())
        self.layout = Layout(self.root)
        self.store = self.open()
        self.addCleanup(lambda: self.result(self.store.close()))

    def open(self) -> Store:
        return open_store(
            self.root,
            self.layout.hosted_root,
            clock=self.clock,
            threads=self.threads,
            monotonic=self.clock.seconds,
            wall_clock=self.wall.seconds,
            has_room=self.has_room,
        )

    def has_room(self, folder: Path, size: int) -> bool:
        """Return whether a copy of `size` bytes fits on the file system of a folder; it does."""
        return True

    def reopen(self) -> None:
        self.result(self.store.close())
        self.store = self.open()

    def kill(self) -> None:
        """Simulate kill -9: what was only in memory is lost."""
        with contextlib.suppress(TaskFinished):
            self.store._reconciliation.stop()
        self.store.database._reader.close()
        self.store.database._writer.close()
        self.store._lock.release()
        self.clock = Clock()
        self.store = self.open()

    def reconcile(self) -> None:
        self.clock.pump([0.0] * 5000)

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def failure(self, coroutine: Coroutine[Any, Any, T], error: type[Exception]) -> Exception:
        failure = self.failureResultOf(Deferred.fromCoroutine(coroutine), error)
        assert isinstance(failure.value, error)
        return failure.value

    def add_blob(self, body: bytes) -> Digest:
        digest = Digest.of(body)
        partial = self.result(self.store.blobs.create_partial(digest, is_kept=True))
        self.result(partial.write(body))
        self.result(partial.commit())
        return digest

    def read_blob(self, digest: Digest) -> bytes | None:
        blob = self.store.blobs.open(digest)
        if blob is None:
            return None
        try:
            return os.pread(blob.fd, blob.size + 1, 0)
        finally:
            blob.close()

    def add_manifest(self, source: RepositoryKey, manifest: Manifest) -> None:
        self.result(self.store.manifests.store(source, manifest))


class PushTestCase(StoreTestCase):
    """Pushes to `self.store` as a client would."""

    def push_blob(self, body: bytes, repository: RepositoryName = APP) -> Digest:
        upload = self.result(self.store.uploads.begin(repository, "ann"))
        self.result(upload.write(body))
        self.result(upload.commit(Digest.of(body)))
        return Digest.of(body)

    def push_manifest(
        self,
        manifest: Manifest,
        *tags: Tag,
        repository: RepositoryName = APP,
        subject: Digest | None = None,
    ) -> Digest:
        putting = self.store.hosted.put_manifest(repository, manifest, tags, referrer=Referrer(subject))
        self.result(putting)
        return manifest.digest

    def has(self, digest: Digest, repository: RepositoryName = APP) -> bool:
        return self.store.hosted.link(repository, digest) is not None

    def read_manifest(self, digest: Digest) -> bytes | None:
        found = self.result(self.store.manifests.read(digest))
        return None if found is None else found.body

    def evict_all(self) -> None:
        """Evict everything that can be evicted, as in an emergency."""
        self.result(self.store.eviction.flush())
        self.clock.advance(0)
        self.result(self.store.eviction.evict(list(self.store.eviction.entries())))

    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.wall.advance(seconds)

    def tags(self, repository: RepositoryName = APP) -> list[str]:
        return self.store.hosted.tags(repository, "", 1000)

    def unlink_unreferenced(self, grace_seconds: float) -> Iterable[Digest]:
        going = [each for page in self.store.hosted_gc.unreferenced(grace_seconds) for each in page]
        self.result(self.store.hosted_gc.unlink(going, grace_seconds))
        return [digest for _, digest in going]


def manifest(*layers: Descriptor, note: str = "") -> Manifest:
    """Return a small image manifest."""
    listed = ", ".join(
        f'{{"mediaType": "{layer.media_type}", "digest": "{layer.digest}", "size": {layer.size}}}'
        for layer in layers
    )
    body = f'{{"mediaType": "{OCI_MANIFEST}", "config": {{}}, "note": "{note}", "layers": [{listed}]}}'
    return Manifest.parse(body.encode(), OCI_MANIFEST)


def layer(body: bytes) -> Descriptor:
    """Return the descriptor of a layer."""
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(body), len(body))


def observation(of: Manifest, seen_at: float = 0.0) -> TagObservation:
    """Return an upstream's answer that names this manifest."""
    return TagObservation(of.descriptor, seen_at)
