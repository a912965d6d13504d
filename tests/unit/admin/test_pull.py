"""Tests of mirrord/admin/pull.py."""

from collections.abc import AsyncGenerator
from typing import Any

from twisted.internet.defer import Deferred

from mirrord.admin.pull import CONCURRENT_BLOBS, ImagePuller
from mirrord.admin.results import BlobProgress, ManifestPulled, PullDone, ReferenceResolved
from mirrord.flight.slots import DownloadSlots
from mirrord.oci.digest import Digest
from mirrord.oci.errors import (
    Denied,
    ManifestUnknown,
    NameUnknown,
    TooManyDownloads,
    Unsupported,
    UpstreamRefused,
)
from mirrord.oci.manifests import Manifest
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference
from tests.fakes.upstream import FakeBlobBody
from tests.unit.admin.cases import EMPTY, UBUNTU, OperatorCase, image, index, layer

AMD64 = Platform("linux", "amd64")


class ImagePullerTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.hub.sending_clock = self.clock
        self.hub.add_blob(EMPTY)

    def pull(self, reference: str = "ubuntu", platform: Platform | None = AMD64) -> AsyncGenerator[Any, None]:
        puller = ImagePuller(self.router, self.clock)
        return puller.pull(ImageReference.parse(reference), platform)

    def pulled(self, events: list[Any]) -> list[Digest]:
        return [event.digest for event in events if isinstance(event, ManifestPulled)]

    def subscribers(self) -> int:
        return sum(download.subscribers for download in self.repositories.downloads.running)

    def test_image(self) -> None:
        """The digest of the tag is reported, then its manifest and blobs, then the totals."""
        one = image(layer(b"abc"), layer(b"de"))
        self.hub.add(one, b"abc", b"de", tags=("latest",))

        events = self.all_of(self.pull())

        self.assertEqual(
            ReferenceResolved(
                reference=ImageReference.parse("ubuntu"),
                digest=one.digest,
                upstream="docker.io",
                repository=UBUNTU.repository,
            ),
            events[0],
        )
        self.assertEqual(ManifestPulled(one.digest, None), events[1])
        self.assertIn(BlobProgress(digest=layer(b"abc").digest, size=3, written=3, is_held=True), events)
        self.assertEqual(
            PullDone(manifests=1, blobs=3, bytes=len(one.body) + 7, fetched_bytes=7, seconds=0.0), events[-1]
        )
        for descriptor in (one.descriptor, *one.references()):
            self.assertTrue(self.store.has(descriptor.digest))
            self.assertFalse(self.store.opened.blobs.is_pinned(descriptor.digest))

    def test_platform(self) -> None:
        """The image of an index for the platform is pulled, or all images."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both = index(amd64=amd, arm64=arm)
        self.hub.add(both, amd, arm, b"amd", b"arm", tags=("latest",))

        self.assertEqual([both.digest, amd.digest], self.pulled(self.all_of(self.pull())))
        arm64 = Platform("linux", "arm64")
        events = self.all_of(self.pull(platform=arm64))
        self.assertIn(ManifestPulled(arm.digest, arm64), events)
        self.assertEqual(
            [both.digest, amd.digest, arm.digest], self.pulled(self.all_of(self.pull(platform=None)))
        )
        _, ended = self.listen(self.pull(platform=Platform("linux", "s390x")))
        self.failureResultOf(ended, ManifestUnknown)

    def test_layers_that_are_not_distributed(self) -> None:
        """Layers that no registry distributes are not requested."""
        foreign = layer(b"w", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        self.hub.add(image(foreign), tags=("latest",))
        self.assertEqual(1, self.all_of(self.pull())[-1].blobs)
        self.assertNotIn(str(foreign.digest), [request.name for request in self.hub.requests])

    def slow(self, count: int) -> Manifest:
        """Return an image whose config is cached, and whose layers are sent by the test."""
        contents = [b"%03d" % number * 100 for number in range(count)]
        one = image(*map(layer, contents))
        self.hub.add(one, *contents, tags=("latest",))
        self.store.cache(UBUNTU, EMPTY)
        self.hub.sending_clock = None
        return one

    def test_concurrency(self) -> None:
        """A few blobs are pulled at a time, the next one when one of them is complete."""
        self.slow(5)
        received, ended = self.listen(self.pull())
        self.assertEqual(CONCURRENT_BLOBS, len(self.hub.bodies))

        for number in range(5):
            self.assertEqual(min(5, CONCURRENT_BLOBS + number), len(self.hub.bodies))
            self.hub.bodies[number].finish()
            self.clock.pump([0.0] * 5)

        self.successResultOf(ended)
        self.assertEqual((6, 1502), (received[-1].blobs, received[-1].bytes - len(self.body())))
        self.assertEqual(1500, received[-1].fetched_bytes)

    def body(self) -> bytes:
        """Return the manifest that the tag names."""
        return self.hub.manifests[self.hub.tags["latest"]].body

    def test_progress(self) -> None:
        """The progress of a blob is reported at most five times a second, its completion in any case."""
        one = self.slow(1)
        received, ended = self.listen(self.pull())
        (body,) = self.hub.bodies
        for _ in range(1, 300):
            self.clock.advance(0.01)
            body.send(1)
        body.finish()

        self.successResultOf(ended)
        digest = one.references()[-1].digest
        written = [e.written for e in received if isinstance(e, BlobProgress) and e.digest == digest]
        self.assertEqual((0, 300), (written[0], written[-1]))
        self.assertLessEqual(len(written), 2 + 3.0 / 0.2)
        self.assertGreater(len(written), 10)

    def test_failure(self) -> None:
        """If a blob fails, the pull ends with its error, and the other blobs are closed."""
        self.slow(3)
        _, ended = self.listen(self.pull())
        self.assertEqual(3, self.subscribers())
        self.break_off(self.hub.bodies[0])

        self.failureResultOf(ended, UpstreamRefused)
        self.assertEqual(0, self.subscribers())
        self.assertEqual(2, len(self.repositories.downloads.running))

    def break_off(self, body: FakeBlobBody) -> None:
        """Fail a download for good."""
        body.send(1)
        body.fail(UpstreamRefused("busy", retry_after_seconds=3600.0))

    def test_disconnected_operator(self) -> None:
        """If the operator disconnects, the blobs are closed, and their downloads continue."""
        one = self.slow(3)
        _, ended = self.listen(self.pull())
        ended.cancel()
        self.failureResultOf(ended)
        self.assertEqual(0, self.subscribers())
        for body in self.hub.bodies:
            body.finish()
        for descriptor in one.references():
            self.assertTrue(self.store.has(descriptor.digest))

    def test_postponed(self) -> None:
        """A download whose slot a client needs is parked, and continues when the client has its blob."""
        self.repositories.downloads.slots = DownloadSlots(1, 1)
        one = self.slow(1)
        received, ended = self.listen(self.pull())
        self.hub.bodies[0].send(100)
        other = self.hub.add_blob(b"other")
        opening = Deferred.fromCoroutine(self.repositories.downloads.open(UBUNTU, other, "client"))
        client = self.successResultOf(opening).blob
        self.addCleanup(client.close)
        self.assertTrue(self.hub.bodies[0].is_aborted)
        self.assertNoResult(ended)
        self.clock.advance(60)
        self.hub.bodies[1].finish()
        self.clock.advance(60)
        self.assertEqual(100, self.hub.requests[-1].offset)
        self.hub.bodies[2].finish()

        self.successResultOf(ended)
        self.assertEqual(300, received[-1].fetched_bytes)
        self.assertTrue(self.store.has(one.references()[-1].digest))

    def test_postponed_for_too_long(self) -> None:
        """A pull ends with an error if clients leave it no slot for ten minutes."""
        self.repositories.downloads.slots = DownloadSlots(1, 1)
        other = self.hub.add_blob(b"other")
        self.slow(1)
        opening = Deferred.fromCoroutine(self.repositories.downloads.open(UBUNTU, other, "client"))
        self.addCleanup(self.successResultOf(opening).blob.close)
        _, ended = self.listen(self.pull())
        self.clock.pump([10] * 59)
        self.assertNoResult(ended)
        self.clock.pump([10] * 10)
        self.failureResultOf(ended, TooManyDownloads)

    def test_not_mirrored(self) -> None:
        """A repository that is not mirrored is rejected without a request."""
        for reference, error in {"private/x": Denied, "nowhere.example/x": NameUnknown}.items():
            _, ended = self.listen(self.pull(reference))
            self.failureResultOf(ended, error)
        self.assertEqual([], self.hub.requests)

    def test_hosted(self) -> None:
        """An image of a hosted repository cannot be pulled from an upstream."""
        reference = ImageReference.parse("team/app", lambda name: name.name == "team/app")
        _, ended = self.listen(ImagePuller(self.router, self.clock).pull(reference, None))
        self.failureResultOf(ended, Unsupported)
