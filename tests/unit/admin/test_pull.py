from collections.abc import AsyncGenerator
from typing import Any

from mirrord.admin.pull import CONCURRENT_BLOBS, ImagePuller
from mirrord.admin.results import BlobProgress, ManifestPulled, PullDone, ReferenceResolved
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, ManifestUnknown, NameUnknown, UpstreamTimeout
from mirrord.oci.manifests import Manifest
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference
from tests.unit.admin.case import UBUNTU, OperateCase, image, index, layer

AMD64 = Platform("linux", "amd64")


class PullingTests(OperateCase):
    def pull(self, reference: str = "ubuntu", platform: Platform | None = AMD64) -> AsyncGenerator[Any, None]:
        puller = ImagePuller(self.router, self.clock)
        return puller.pull(ImageReference.parse(reference), platform)

    def got(self, events: list[Any]) -> list[Digest]:
        return [event.digest for event in events if isinstance(event, ManifestPulled)]

    def test_image(self) -> None:
        """What a tag names is told, then its manifest and blobs, then the sum of it."""
        one = image(layer(b"abc"), layer(b"de"))
        self.upstream.add(one, tag="latest")

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
            PullDone(manifests=1, blobs=2, bytes=len(one.body) + 5, fetched_bytes=0, seconds=0.0), events[-1]
        )
        self.assertTrue(all(blob.is_closed for blob in self.upstream.blobs.values()))

    def test_platform(self) -> None:
        """Of an index the image for the platform is pulled, or all of them."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both = index(amd64=amd, arm64=arm)
        self.upstream.add(both, amd, arm, tag="latest")

        self.assertEqual([both.digest, amd.digest], self.got(self.all_of(self.pull())))
        arm64 = Platform("linux", "arm64")
        events = self.all_of(self.pull(platform=arm64))
        self.assertIn(ManifestPulled(arm.digest, arm64), events)
        self.assertEqual(
            [both.digest, amd.digest, arm.digest], self.got(self.all_of(self.pull(platform=None)))
        )
        _, ended = self.listen(self.pull(platform=Platform("linux", "s390x")))
        self.failureResultOf(ended, ManifestUnknown)

    def test_layers_that_no_registry_has(self) -> None:
        """Layers that are not distributed are not asked for."""
        foreign = layer(b"w", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
        self.upstream.add(image(foreign), tag="latest")
        del self.upstream.blobs[foreign.digest]
        self.assertEqual(0, self.all_of(self.pull())[-1].blobs)

    def slow(self, count: int) -> Manifest:
        """An image whose blobs come when the test says so."""
        one = image(*(layer(b"%03d" % number * 100) for number in range(count)))
        self.upstream.add(one, tag="latest", whole=False)
        return one

    def test_a_few_at_once(self) -> None:
        """A few blobs are asked for at a time, the next one when one of them is whole."""
        one = self.slow(5)
        heard, ended = self.listen(self.pull())
        opened = [digest for _, digest in self.upstream.asked if digest in self.upstream.blobs]
        self.assertEqual(CONCURRENT_BLOBS, len(opened))

        for named in one.references():
            self.upstream.blobs[named.digest].grow(300)
            self.clock.pump([0.0] * 5)

        self.successResultOf(ended)
        self.assertEqual((5, 1500), (heard[-1].blobs, heard[-1].fetched_bytes))

    def test_progress(self) -> None:
        """A blob's progress is told five times a second at most, and its end in any case."""
        (named,) = self.slow(1).references()
        heard, ended = self.listen(self.pull())
        blob = self.upstream.blobs[named.digest]
        for written in range(1, 300):
            self.clock.advance(0.01)
            blob.grow(written)
        blob.grow(300)

        self.successResultOf(ended)
        told = [event.written for event in heard if isinstance(event, BlobProgress)]
        self.assertEqual((0, 300), (told[0], told[-1]))
        self.assertLessEqual(len(told), 2 + 3.0 / 0.2)
        self.assertGreater(len(told), 10)

    def test_failure(self) -> None:
        """A blob that fails ends the pull with its error, and lets go of the others."""
        one = self.slow(3)
        _, ended = self.listen(self.pull())
        first, *others = [self.upstream.blobs[named.digest] for named in one.references()]
        first.fail(UpstreamTimeout("silent"))

        self.failureResultOf(ended, UpstreamTimeout)
        self.assertTrue(all(blob.is_closed for blob in (first, *others)))

    def test_leaving(self) -> None:
        """An operator who leaves lets go of the blobs, and nothing else happens to them."""
        one = self.slow(3)
        _, ended = self.listen(self.pull())
        ended.cancel()
        self.failureResultOf(ended)
        for named in one.references():
            self.assertTrue(self.upstream.blobs[named.digest].is_closed)
            self.upstream.blobs[named.digest].grow(300)

    def test_not_mirrored(self) -> None:
        """What is not configured to be mirrored is refused before anybody is asked."""
        for reference, error in {"private/x": Denied, "nowhere.example/x": NameUnknown}.items():
            _, ended = self.listen(self.pull(reference))
            self.failureResultOf(ended, error)
        self.assertEqual([], self.upstream.asked)
