"""A store in a folder of its own, with a clock that the test turns and threads that do not wait."""

import contextlib
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, TaskFinished
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.store.layout import Layout
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
DEBIAN = RepositoryKey("docker.io", RepositoryName("library/debian"))
LATEST = Tag("latest")


class StoreTestCase(SynchronousTestCase):
    """Opens `self.store` in `self.root`; `reopen` is a restart, `lose` is kill -9."""

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
            clock=self.clock,
            threads=self.threads,
            monotonic=self.clock.seconds,
            wall_clock=self.wall.seconds,
        )

    def reopen(self) -> None:
        self.result(self.store.close())
        self.store = self.open()

    def lose(self) -> None:
        """End without a word: what only memory knew is gone."""
        with contextlib.suppress(TaskFinished):
            self.store._reconciliation.stop()
        self.store._database._reader.close()
        self.store._database._writer.close()
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
        partial = self.store.blobs.create_partial(digest, is_kept=True)
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


def manifest(*layers: Descriptor, note: str = "") -> Manifest:
    """A small image manifest."""
    listed = ", ".join(
        f'{{"mediaType": "{layer.media_type}", "digest": "{layer.digest}", "size": {layer.size}}}'
        for layer in layers
    )
    body = f'{{"mediaType": "{OCI_MANIFEST}", "config": {{}}, "note": "{note}", "layers": [{listed}]}}'
    return Manifest.parse(body.encode(), OCI_MANIFEST)


def layer(body: bytes) -> Descriptor:
    """What a manifest says of a layer."""
    return Descriptor("application/vnd.oci.image.layer.v1.tar+gzip", Digest.of(body), len(body))


def sighting(of: Manifest, seen_at: float = 0.0) -> TagObservation:
    """That an upstream named this manifest."""
    return TagObservation(of.descriptor, seen_at)
