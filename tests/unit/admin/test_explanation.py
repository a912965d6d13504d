import attrs

from mirrord.admin.explanation import Explainer
from mirrord.admin.results import Explanation
from mirrord.last_clients import LastClients
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import BlobState, ManifestState, TagState
from tests.unit.admin.case import UBUNTU, OperateCase, image, index, layer

LATEST = Tag("latest")


class InquiryTests(OperateCase):
    def setUp(self) -> None:
        super().setUp()
        self.visitors = LastClients(lambda: 77.0)
        self.clock.advance(1000)

    def explain(self, reference: str = "ubuntu") -> Explanation:
        explainer = Explainer(router=self.router, permissions=lambda _: None, last_clients=self.visitors)
        return self.result(explainer.explain(ImageReference.parse(reference)))

    def test_unknown(self) -> None:
        """Of what nobody asked for it is told where it would come from."""
        nothing = Explanation(
            reference=ImageReference.parse("ubuntu"),
            upstream="docker.io",
            repository=UBUNTU.repository,
            is_known=False,
        )
        self.assertEqual(nothing, self.explain())

        self.condition = "it failed a moment ago"
        self.assertEqual(attrs.evolve(nothing, why_not="it failed a moment ago"), self.explain())

    def test_held(self) -> None:
        """A held tag is told with its manifest, its blobs, and who asked last; it is served in any case."""
        one = image(layer(b"abc"))
        self.shelves.hold(UBUNTU, one)
        self.shelves.known[UBUNTU, LATEST] = TagRecord(cached=TagObservation(one.descriptor, 800.0))
        self.visitors.record(UBUNTU, one.digest, "10.0.0.7")
        self.condition = "it failed a moment ago"

        told = self.explain()

        self.assertEqual(TagState(one.digest, 800.0, 1100.0, "fresh"), told.tag)
        self.assertEqual(
            ManifestState(one.digest, one.media_type, len(one.body), is_held=True), told.manifest
        )
        self.assertEqual((BlobState(layer(b"abc").digest, 3, "held", 3),), told.blobs)
        self.assertEqual(("10.0.0.7", 77.0), (told.last_client, told.last_asked_at))
        self.assertEqual((True, None), (told.is_known, told.why_not))

        self.clock.advance(100)
        tag = self.explain().tag
        assert tag is not None
        self.assertEqual("stale", tag.state)

    def test_pending(self) -> None:
        """A tag that was only seen is pending, and its manifest is not here."""
        one = image()
        self.shelves.known[UBUNTU, LATEST] = TagRecord(pending=TagObservation(one.descriptor, 990.0))
        self.condition = "it failed a moment ago"

        told = self.explain()

        self.assertEqual(TagState(one.digest, 990.0, 1290.0, "pending"), told.tag)
        self.assertEqual(
            ManifestState(one.digest, one.media_type, len(one.body), is_held=False), told.manifest
        )
        self.assertEqual(((), "it failed a moment ago"), (told.blobs, told.why_not))

    def test_held_by_another(self) -> None:
        """A manifest that only another repository may read is not held here."""
        one = image(layer(b"abc"))
        self.shelves.hold(RepositoryKey("docker.io", RepositoryName("library/debian")), one)
        self.shelves.known[UBUNTU, LATEST] = TagRecord(pending=TagObservation(one.descriptor, 990.0))

        told = self.explain()

        assert told.manifest is not None
        self.assertEqual((False, ()), (told.manifest.is_held, told.blobs))

    def test_blobs(self) -> None:
        """Of each blob it is told where its bytes are."""
        states = {"held": 3, "downloading": 2, "partial": 1, "absent": 0}
        layers = {state: layer(state.encode()) for state in states}
        one = image(*layers.values())
        self.shelves.hold(UBUNTU, one)
        for state in ("downloading", "partial", "absent"):
            del self.shelves.blobs[layers[state].digest]
        self.downloads[layers["downloading"].digest] = 2
        self.shelves.left[layers["partial"].digest] = 1

        blobs = self.explain(f"ubuntu@{one.digest}").blobs

        self.assertEqual(list(states), [blob.state for blob in blobs])
        self.assertEqual([4, 2, 1, 0], [blob.written for blob in blobs])

    def test_index(self) -> None:
        """The blobs of an index are those of its images that are here, each once."""
        amd, arm = image(layer(b"amd"), layer(b"base")), image(layer(b"arm"))
        also = image(layer(b"base"), note="also")
        both = index(amd64=amd, arm64=arm, riscv64=also)
        self.shelves.hold(UBUNTU, both, amd, also)
        self.shelves.known[UBUNTU, LATEST] = TagRecord(cached=TagObservation(both.descriptor, 800.0))

        digests = [blob.digest for blob in self.explain().blobs]
        self.assertEqual([layer(b"amd").digest, layer(b"base").digest], digests)

    def test_blob(self) -> None:
        """The digest of a blob is explained as one."""
        self.shelves.hold(UBUNTU, image(layer(b"abc")))
        told = self.explain(f"ubuntu@{layer(b'abc').digest}")
        self.assertEqual((None, True), (told.manifest, told.is_known))
        self.assertEqual(["held"], [blob.state for blob in told.blobs])

    def test_denied(self) -> None:
        """What the configuration denies is told as that, and what is held of it all the same."""
        source = RepositoryKey("docker.io", RepositoryName("private/x"))
        one = image(layer(b"abc"))
        self.shelves.hold(source, one)
        told = self.explain(f"private/x@{one.digest}")
        self.assertIn("not configured", told.why_not or "")
        self.assertTrue(told.is_known)
        self.assertIn("does not know", self.explain("nowhere.example/x").why_not or "")
