"""A real store in a temporary folder, with inline threads and a clock that the test advances."""

import os
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.content import ContentKind, Entry, TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, Tag
from mirrord.store.layout import Layout
from mirrord.store.store import Store, open_store
from tests.fakes.threads import InlineThreads

T = TypeVar("T")


def content_path(layout: Layout, kind: ContentKind, digest: Digest) -> Path:
    """Return where the file of stored content is, in whichever folder; without one, that of the cache."""
    cached, hosted = layout.candidates(kind, digest, is_hosted=False)
    return hosted if hosted.exists() else cached


@attrs.define(eq=False, kw_only=True)
class TemporaryStore:
    """A store that is closed at the end of a test, and the means to fill and to damage it.

    Nothing here may wait: call it while `threads` run calls at once. Service time is that of `clock`, `now`
    the wall clock.
    """

    case: SynchronousTestCase
    clock: Clock
    now: Callable[[], float]
    threads: InlineThreads = attrs.field(factory=InlineThreads)
    layout: Layout = attrs.field(init=False)
    opened: Store = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.layout = Layout(Path(self.case.mktemp()))
        self.opened = open_store(
            self.layout.root,
            clock=self.clock,
            threads=self.threads,
            monotonic=self.clock.seconds,
            wall_clock=self.now,
        )
        self.case.addCleanup(self._close)

    @classmethod
    def of(cls, case: SynchronousTestCase, clock: Clock | None = None) -> "TemporaryStore":
        """Open a store whose times are those of `clock`, or stand still."""
        clock = clock or Clock()
        return cls(case=case, clock=clock, now=clock.seconds)

    def add_blob(self, content: bytes) -> Digest:
        """Commit a blob, linked to no repository."""
        digest = Digest.of(content)
        if self.opened.blobs.size_of(digest) is None:
            partial = self._run(self.opened.blobs.create_partial(digest, is_kept=True))
            self._run(partial.write(content))
            self._run(partial.commit())
        return digest

    def cache(self, key: RepositoryKey, *content: Manifest | bytes) -> None:
        """Store manifests and blobs as if they had been pulled through a mirrored repository."""
        for each in content:
            if isinstance(each, bytes):
                self.link(key, Descriptor(OCTET_STREAM, self.add_blob(each), len(each)))
        for each in content:
            if isinstance(each, Manifest):
                self._run(self.opened.manifests.store(key, each))
        self.flush()

    def link(self, key: RepositoryKey, descriptor: Descriptor) -> None:
        """Link content to a mirrored repository; an existing link is not changed."""
        if self.opened.browser.link(key, descriptor.digest) is None:
            self.opened.index.add_links(key, [descriptor])

    def observe(self, key: RepositoryKey, tag: str, manifest: Manifest, at: float = 0.0) -> None:
        """Record what a tag named upstream; it is cached if that manifest is, and pending otherwise."""
        self.opened.index.observe_tag(key, Tag(tag), TagObservation(manifest.descriptor, at))
        self.flush()

    def park(self, digest: Digest, content: bytes) -> None:
        """Leave a partial of an earlier download."""
        partial = self._run(self.opened.blobs.create_partial(digest, is_kept=True))
        self._run(partial.write(content))
        self._run(partial.park())

    def lose(self, kind: ContentKind, digest: Digest) -> None:
        """Delete a file behind the back of the store, and let an audit find that."""
        content_path(self.layout, kind, digest).unlink()
        entry = Entry(kind=kind, name=str(digest), size=0, idle_seconds=0.0)
        examination = self.opened.audit.examine(entry)
        assert examination is not None
        with closing(examination):
            assert examination.set_aside()

    def damage(self, kind: ContentKind, digest: Digest) -> None:
        """Change the last byte of a file."""
        path = content_path(self.layout, kind, digest)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def blob(self, digest: Digest) -> bytes | None:
        """Return the content of a committed blob."""
        blob = self.opened.blobs.open(digest)
        if blob is None:
            return None
        with closing(blob):
            return os.pread(blob.fd, blob.size + 1, 0)

    def has(self, digest: Digest) -> bool:
        """Return whether a blob or a manifest of this digest is stored."""
        sizes = (
            self.opened.browser.size_of(kind, digest) for kind in (ContentKind.BLOB, ContentKind.MANIFEST)
        )
        return any(size is not None for size in sizes)

    def partial(self, digest: Digest) -> bytes | None:
        """Return the bytes of a partial that nothing writes."""
        if self.opened.browser.partial_size(digest) is None:
            return None
        return self.layout.partial(digest).read_bytes()

    def flush(self) -> None:
        """Write everything that waits to the index."""
        self._run(self.opened.browser.flush())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.case.successResultOf(Deferred.fromCoroutine(coroutine))

    def _close(self) -> None:
        self.threads.failures.clear()
        self.threads.release()
        self._run(self.opened.close())
