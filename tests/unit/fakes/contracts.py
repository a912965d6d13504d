"""Contracts: tests that a fake and the class that it stands for both inherit.

Classes here are not collected by themselves: import the module, not the classes.
"""

import json
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mirrord.hosted.ports import HostedSpace
from mirrord.mirrored.ports import BlobBody, CacheSpace, Upstream
from mirrord.oci.digest import Digest
from mirrord.oci.errors import BlobUnknown, ManifestUnknown, NameUnknown, UpstreamRefused
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.routes import Page
from mirrord.repository import Repository
from tests.fakes.images import Image, make_image

APP, OTHER = RepositoryName("library/app"), RepositoryName("library/other")
UNKNOWN = Digest.of(b"unknown")


class UpstreamContract(TestCase):
    """An upstream with `image` in the repository APP, under the tags "latest", "a" and "b"."""

    upstream: Upstream
    image: Image

    async def put(self, image: Image, tags: tuple[str, ...]) -> None:
        """Put an image into the repository APP."""
        raise NotImplementedError

    async def start(self) -> None:
        self.image = make_image([300_000])
        self.layer = self.image.layers[0]
        self.digest = Digest.parse(self.layer.digest)
        piece = self.image.manifest
        self.manifest = Manifest(Digest.parse(piece.digest), piece.media_type, piece.content)
        await self.put(self.image, ("latest", "b", "a"))

    @asynccontextmanager
    async def body(self, **options: Any) -> AsyncIterator[BlobBody]:
        body = await self.upstream.fetch_blob(APP, self.digest, budget_seconds=5, **options)
        try:
            yield body
        finally:
            body.abort()

    async def read(self, body: BlobBody) -> bytes:
        chunks = []
        while chunk := await body.read():
            chunks.append(chunk)
        return b"".join(chunks)

    async def assert_raises(
        self, errors: tuple[type[Exception], ...], request: Coroutine[Any, Any, Any]
    ) -> Exception:
        raised: Exception = await self.assertFailure(Deferred.fromCoroutine(request), *errors)
        return raised

    async def test_resolve(self) -> None:
        """A tag and a digest are resolved to the descriptor of the manifest."""
        for reference in (Tag("latest"), self.manifest.digest):
            descriptor = await self.upstream.resolve(APP, reference, budget_seconds=5, attempts=1)
            self.assertEqual(self.manifest.descriptor, descriptor)

    async def test_fetch_manifest(self) -> None:
        """A manifest is fetched by tag and by digest."""
        for reference in (Tag("latest"), self.manifest.digest):
            manifest = await self.upstream.fetch_manifest(APP, reference, budget_seconds=5, attempts=1)
            self.assertEqual(self.manifest, manifest)

    async def test_unknown_manifest(self) -> None:
        """An unknown tag or digest is a ManifestUnknown."""
        for reference in (Tag("none"), UNKNOWN):
            for request in (self.upstream.resolve, self.upstream.fetch_manifest):
                await self.assert_raises(
                    (ManifestUnknown,),
                    request(APP, reference, budget_seconds=5, attempts=1),
                )

    async def test_head_blob(self) -> None:
        """HEAD returns the size of a blob; an unknown one is a BlobUnknown."""
        self.assertEqual(self.layer.size, await self.upstream.head_blob(APP, self.digest, budget_seconds=5))
        await self.assert_raises((BlobUnknown,), self.upstream.head_blob(APP, UNKNOWN, budget_seconds=5))

    async def test_fetch_blob(self) -> None:
        """A blob is fetched whole, with its size."""
        async with self.body() as body:
            self.assertEqual((0, self.layer.size), (body.offset, body.size))
            self.assertEqual(self.layer.content, await self.read(body))

    async def test_fetch_range(self) -> None:
        """A part of a blob has the size of the whole blob."""
        for offset, stop in ((1000, None), (1000, 5000)):
            async with self.body(offset=offset, stop=stop) as body:
                self.assertEqual((offset, self.layer.size), (body.offset, body.size))
                self.assertEqual(self.layer.content[offset:stop], await self.read(body))

    async def test_fetch_beyond_the_end(self) -> None:
        """A request for bytes beyond the end is refused with 416."""
        error = await self.assert_raises(
            (UpstreamRefused,),
            self.upstream.fetch_blob(APP, self.digest, offset=self.layer.size, budget_seconds=5),
        )
        assert isinstance(error, UpstreamRefused)
        self.assertEqual(416, error.upstream_status)

    async def test_unknown_blob(self) -> None:
        """An unknown blob is a BlobUnknown."""
        await self.assert_raises((BlobUnknown,), self.upstream.fetch_blob(APP, UNKNOWN, budget_seconds=5))

    async def test_abort(self) -> None:
        """A body may be aborted at any time, and more than once."""
        async with self.body() as body:
            await body.read()
            body.abort()

    async def test_list_tags(self) -> None:
        """The tags are listed in order."""
        self.assertEqual(["a", "b", "latest"], await self.upstream.list_tags(APP, budget_seconds=5))

    async def test_list_referrers(self) -> None:
        """Referrers are a JSON object, which is not filtered without an artifact type."""
        body, is_filtered = await self.upstream.list_referrers(
            APP, self.manifest.digest, None, budget_seconds=5
        )
        self.assertIsInstance(json.loads(body), dict)
        self.assertFalse(is_filtered)

    async def test_unknown_repository(self) -> None:
        """In an unknown repository everything is unknown."""
        digest = self.manifest.digest
        upstream = self.upstream
        for errors, request in (
            ((ManifestUnknown,), upstream.resolve(OTHER, digest, budget_seconds=5, attempts=1)),
            (
                (ManifestUnknown, NameUnknown),
                upstream.fetch_manifest(OTHER, digest, budget_seconds=5, attempts=1),
            ),
            ((BlobUnknown,), upstream.head_blob(OTHER, self.digest, budget_seconds=5)),
            ((BlobUnknown, NameUnknown), upstream.fetch_blob(OTHER, self.digest, budget_seconds=5)),
            ((NameUnknown,), upstream.list_tags(OTHER, budget_seconds=5)),
        ):
            await self.assert_raises(errors, request)

    async def test_degraded(self) -> None:
        """An upstream is degraded after it was marked so."""
        for of_manifests in (True, False):
            self.assertFalse(self.upstream.is_degraded(of_manifests=of_manifests))
        self.upstream.mark_degraded()
        for of_manifests in (True, False):
            self.assertTrue(self.upstream.is_degraded(of_manifests=of_manifests))


class SpaceContract(SynchronousTestCase):
    """Room for downloads and pushes."""

    def space(self, free: int, *, has_content: bool = False) -> CacheSpace:
        """Return the room of a disk with so many free bytes, and with content that may be evicted."""
        raise NotImplementedError

    def pushes(self, free: int) -> HostedSpace:
        """Return the same for pushes."""
        raise NotImplementedError

    def result(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def test_room(self) -> None:
        """There is room for as many bytes as are free."""
        for size, has_room in ((1 << 30, True), ((1 << 30) + 4096, False)):
            space = self.space(1 << 30)
            self.assertEqual(has_room, space.can_fit(size, UNKNOWN, is_kept=True))
            self.assertEqual(has_room, self.result(space.make_room(size)))
            self.assertEqual(has_room, self.result(space.make_room(size, UNKNOWN)))
            self.assertEqual(has_room, self.result(self.pushes(1 << 30).make_room_for_push(size)))

    def test_emergency(self) -> None:
        """A retry after an emergency makes sense if something was evicted."""
        for has_content in (True, False):
            space = self.space(0, has_content=has_content)
            self.assertEqual(has_content, self.result(space.free_in_emergency(1)))

    def test_loan(self) -> None:
        """Room is lent for a stream that is not kept, unless it is larger than the disk."""
        space = self.space(1 << 30)
        for size, has_room in ((1 << 31, False), (1 << 29, True)):
            self.assertEqual(has_room, space.can_fit(size, UNKNOWN, is_kept=False))
            self.assertEqual(has_room, self.result(space.make_room(size, UNKNOWN, is_kept=False)))


class RepositoryContract(SynchronousTestCase):
    """A mirrored repository, as the API uses it."""

    def open(self, manifest: Manifest, tags: tuple[str, ...], blob: bytes) -> Repository:
        """Return a repository whose upstream has this content."""
        raise NotImplementedError

    def grow(self, readable: int) -> None:
        """Let the download of the blob proceed to this number of bytes."""
        raise NotImplementedError

    def setUp(self) -> None:
        self.manifest = Manifest.parse(b'{"layers": []}', "application/vnd.oci.image.manifest.v1+json")
        self.blob = bytes(range(100))
        self.digest = Digest.of(self.blob)
        self.repository = self.open(self.manifest, ("1.0", "1.1", "latest"), self.blob)

    def result(self, coroutine: Any) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def failure(self, coroutine: Any, error: type[Exception]) -> None:
        self.failureResultOf(Deferred.fromCoroutine(coroutine), error)

    def test_manifest(self) -> None:
        """A manifest is returned by tag and by digest; HEAD returns its descriptor."""
        for reference in (Tag("latest"), self.manifest.digest):
            self.assertEqual(
                self.manifest.descriptor, self.result(self.repository.head_manifest(reference)).descriptor
            )
            self.assertEqual(self.manifest, self.result(self.repository.get_manifest(reference)).manifest)

    def test_unknown_manifest(self) -> None:
        """An unknown manifest is a ManifestUnknown."""
        for reference in (Tag("none"), UNKNOWN):
            self.failure(self.repository.get_manifest(reference), ManifestUnknown)
            self.failure(self.repository.head_manifest(reference), ManifestUnknown)

    def test_blob_size(self) -> None:
        """HEAD returns the size of a blob."""
        self.assertEqual(100, self.result(self.repository.head_blob(self.digest)).size)
        self.failure(self.repository.head_blob(UNKNOWN), BlobUnknown)

    def test_growing_blob(self) -> None:
        """A blob is opened before its bytes are there, and read as it grows."""
        blob = self.result(self.repository.open_blob(self.digest)).blob
        self.assertEqual((100, 0), (blob.size, blob.readable))
        self.assertIsNone(self.repository.stored_blob_size(self.digest))
        waiting = Deferred.fromCoroutine(blob.grown(0))
        self.assertNoResult(waiting)
        self.grow(40)
        self.assertEqual(40, self.successResultOf(waiting))
        self.assertEqual(40, self.result(blob.grown(39)))
        self.assertEqual(self.blob[:40], os.pread(blob.fd, 40, 0))

        waiting = Deferred.fromCoroutine(blob.grown(99))
        self.grow(100)
        self.assertEqual(100, self.successResultOf(waiting))
        self.assertIsNone(self.result(blob.pass_through(90, 100)))
        self.assertEqual(100, self.repository.stored_blob_size(self.digest))
        blob.close()
        blob.close()

    def test_unknown_blob(self) -> None:
        """An unknown blob is a BlobUnknown."""
        self.failure(self.repository.open_blob(UNKNOWN), BlobUnknown)

    def test_tags(self) -> None:
        """A page of tags begins after its last name, and has one more than its limit."""
        for page, tags in (
            (Page(), ("1.0", "1.1", "latest")),
            (Page(1), ("1.0", "1.1")),
            (Page(1, "1.0"), ("1.1", "latest")),
            (Page(None, "1.05"), ("1.1", "latest")),
            (Page(5, "latest"), ()),
        ):
            self.assertEqual(tags, self.result(self.repository.list_tags(page)).tags)

    def test_referrers(self) -> None:
        """Referrers are an index in one page."""
        found = self.result(self.repository.list_referrers(self.manifest.digest, None))
        self.assertIsInstance(json.loads(found.body), dict)
        self.assertEqual((False, None), (found.is_filtered, found.next_after))

    def test_stored_blob_size(self) -> None:
        """The size of an unknown blob is None."""
        self.assertIsNone(self.repository.stored_blob_size(UNKNOWN))

    def test_read_only(self) -> None:
        """A mirrored repository has no writer."""
        self.assertIsNone(self.repository.writer)
