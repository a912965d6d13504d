"""Tests of mirrored/reference_confirmation.py."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.mirrored.reference_confirmation import (
    CONCURRENT_HEADS,
    FIRST_RETRY_SECONDS,
    MAX_ATTEMPTS,
    MAX_HEADS,
    MAX_MANIFESTS,
)
from mirrord.oci.digest import Digest
from mirrord.oci.errors import UpstreamRefused
from mirrord.oci.names import Reference, Tag
from tests.fakes.repositories import Repositories
from tests.unit.admin.cases import EMPTY, image, index, layer
from tests.unit.mirrored.cases import OTHER, UBUNTU

LATEST = Tag("latest")


class ReferenceConfirmationTests(SynchronousTestCase):
    """UBUNTU has pulled `base`; OTHER pulls an image on top of it, from a host that has the layer."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.repositories = Repositories.of(self, self.clock)
        self.store, self.upstream = self.repositories.store, self.repositories.hub
        self.store.cache(UBUNTU, b"base", EMPTY)
        self.image = image(layer(b"base"), layer(b"absent"))
        self.upstream.add(b"base", EMPTY, self.image, tags=("latest",))
        self.manifests = self.repositories.mirrored_services().manifests

    def get(self, reference: Reference = LATEST) -> None:
        self.successResultOf(Deferred.fromCoroutine(self.manifests.get(OTHER, reference)))

    def wait(self) -> None:
        self.clock.pump([0.0] * 200)

    def is_linked(self, content: bytes) -> bool:
        return self.store.opened.index.is_linked(OTHER, Digest.of(content))

    def heads(self) -> int:
        return self.upstream.count("HEAD blob")

    def test_stored(self) -> None:
        """References that are on the disk are confirmed after a pull, and the others are not requested."""
        self.get()
        self.assertEqual(0, self.heads())
        self.wait()

        self.assertEqual([True, True, False], [self.is_linked(one) for one in (b"base", EMPTY, b"absent")])
        self.assertEqual(2, self.heads())

    def test_refused(self) -> None:
        """What the upstream does not have in the repository stays without a link, and is not retried."""
        self.upstream.blobs.pop(Digest.of(b"base"))
        self.get()
        self.wait()
        self.clock.advance(FIRST_RETRY_SECONDS)
        self.wait()

        self.assertEqual([False, True], [self.is_linked(one) for one in (b"base", EMPTY)])
        self.assertEqual(2, self.heads())

    def test_index(self) -> None:
        """A stored manifest of an index is confirmed, and then what it references itself."""
        both = index(amd64=self.image, arm64=image(note="absent"))
        self.store.cache(UBUNTU, self.image)
        self.upstream.add(both, tags=("both",))
        self.get(Tag("both"))
        self.wait()

        self.assertTrue(self.store.opened.index.is_linked(OTHER, self.image.digest))
        self.assertEqual([True, True], [self.is_linked(one) for one in (b"base", EMPTY)])

    def test_being_downloaded(self) -> None:
        """A blob that is being downloaded for another repository is confirmed too."""
        self.upstream.add(b"absent")
        opening = Deferred.fromCoroutine(self.repositories.mirrored(UBUNTU).open_blob(Digest.of(b"absent")))
        self.addCleanup(self.successResultOf(opening).blob.close)
        self.get()
        self.wait()
        self.upstream.bodies[0].finish()

        self.assertTrue(self.is_linked(b"absent"))

    def test_being_pulled(self) -> None:
        """A blob that is being downloaded through the same repository needs no confirmation."""
        self.upstream.add(b"absent")
        self.get()
        opening = Deferred.fromCoroutine(self.repositories.mirrored(OTHER).open_blob(Digest.of(b"absent")))
        self.addCleanup(self.successResultOf(opening).blob.close)
        self.wait()
        self.upstream.bodies[0].finish()
        self.wait()

        requested = {each.name for each in self.upstream.requests if each.method == "HEAD blob"}
        self.assertEqual({str(Digest.of(b"base")), str(Digest.of(EMPTY))}, requested)
        self.assertTrue(self.is_linked(b"absent"))

    def test_failed(self) -> None:
        """References of a manifest are tried again, at growing intervals, after the upstream failed."""
        self.upstream.failing, self.upstream.failing_method = UpstreamRefused("down"), "HEAD blob"
        self.get()
        self.wait()
        self.assertEqual(1, self.heads())
        for attempt in range(MAX_ATTEMPTS + 1):
            self.clock.advance(FIRST_RETRY_SECONDS * 2**attempt)
            self.wait()
        self.assertEqual(MAX_ATTEMPTS, self.heads())

    def test_recovered(self) -> None:
        """References that could not be confirmed are confirmed after the upstream has recovered."""
        self.upstream.failing, self.upstream.failing_method = UpstreamRefused("down"), "HEAD blob"
        self.get()
        self.wait()
        self.upstream.failing = None
        self.clock.advance(FIRST_RETRY_SECONDS)
        self.wait()

        self.assertTrue(self.is_linked(b"base"))

    def test_degraded(self) -> None:
        """Nothing is requested from an upstream that failed recently."""
        self.get()
        self.upstream.degraded = True
        self.wait()
        self.assertEqual(0, self.heads())

        self.upstream.degraded = False
        self.clock.advance(FIRST_RETRY_SECONDS)
        self.wait()
        self.assertTrue(self.is_linked(b"base"))

    def test_revalidated(self) -> None:
        """The revalidation of a tag confirms references that are on the disk by then."""
        self.get()
        self.wait()
        self.store.cache(UBUNTU, b"absent")
        self.upstream.add(b"absent")
        self.clock.advance(301)
        self.get()
        self.wait()

        self.assertTrue(self.is_linked(b"absent"))

    def test_complete(self) -> None:
        """The revalidation of a tag whose references are linked requests nothing else."""
        self.get()
        self.wait()
        self.upstream.requests.clear()
        self.clock.advance(301)
        self.get()
        self.wait()

        self.assertEqual(["HEAD manifest"], [request.method for request in self.upstream.requests])

    def test_on_demand(self) -> None:
        """A client's request for a blob joins the HEAD that is under way."""
        self.get()
        self.upstream.is_hanging = True
        self.clock.advance(0)
        opening = Deferred.fromCoroutine(self.repositories.mirrored(OTHER).open_blob(Digest.of(EMPTY)))
        self.upstream.respond()
        self.successResultOf(opening).blob.close()
        self.wait()

        self.assertEqual(2, self.heads())

    def test_thousands(self) -> None:
        """A manifest that references thousands of stored blobs causes a bounded number of requests."""
        bodies = [b"%d" % number for number in range(MAX_HEADS + 50)]
        self.store.cache(UBUNTU, *bodies)
        crafted = image(*map(layer, bodies), note="crafted")
        self.upstream.add(crafted, *bodies, tags=("crafted",))
        self.get(Tag("crafted"))
        self.wait()

        self.assertEqual(MAX_HEADS, self.heads())

    def test_concurrency(self) -> None:
        """However many manifests wait, few requests are under way, and the queue is bounded."""
        for number in range(MAX_MANIFESTS + 10):
            one = image(layer(b"base"), note=str(number))
            self.upstream.add(one)
            self.get(one.digest)
        self.upstream.is_hanging = True
        self.wait()
        self.assertEqual(1, self.heads())
        self.assertLessEqual(len(self.upstream._pending), CONCURRENT_HEADS)
        self.upstream.respond()

    def test_stop(self) -> None:
        """After a stop nothing is requested or retried."""
        self.upstream.failing, self.upstream.failing_method = UpstreamRefused("down"), "HEAD blob"
        self.get()
        self.wait()
        other = image(layer(b"base"), note="other")
        self.upstream.add(other)
        self.get(other.digest)
        self.upstream.is_hanging = True
        self.clock.advance(0)
        self.repositories.references.stop()
        self.upstream.failing = None
        self.upstream.respond()
        self.get(LATEST)
        self.clock.advance(FIRST_RETRY_SECONDS)
        self.wait()

        self.assertEqual(2, self.heads())
