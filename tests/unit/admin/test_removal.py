from twisted.internet.defer import Deferred

from mirrord.admin.operations import Remover
from mirrord.oci.content import TagObservation, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import RepositoryKey, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal, RemovedContent, RemovedTag
from tests.unit.admin.case import DEBIAN, UBUNTU, OperateCase, image, index, layer


class RemovalTests(OperateCase):
    def tag(self, source: RepositoryKey, tag: str, manifest: Manifest) -> None:
        self.shelves.known[source, Tag(tag)] = TagRecord(cached=TagObservation(manifest.descriptor, 0.0))

    def remover(self) -> Remover:
        return Remover(self.router)

    def remove(self, reference: str) -> Removal:
        return self.result(self.remover().remove(ImageReference.parse(reference)))

    def gone(self, removal: Removal) -> set[Digest]:
        return {one.digest for one in removal.removed if isinstance(one, RemovedContent)}

    def test_repository(self) -> None:
        """All of a repository goes: tags, links, and what of its content no other repository needs."""
        mine, shared = layer(b"mine"), layer(b"shared")
        here, there = image(mine, shared), image(shared)
        self.shelves.hold(UBUNTU, here)
        self.shelves.hold(DEBIAN, there)
        self.tag(UBUNTU, "1", here)

        removal = self.remove("ubuntu")

        self.assertEqual(RemovedTag(ImageReference.parse("ubuntu:1")), removal.removed[0])
        self.assertEqual({here.digest, mine.digest, shared.digest}, self.gone(removal))
        self.assertEqual(len(here.body) + mine.size, removal.bytes)
        self.assertEqual({shared.digest}, set(self.shelves.blobs))
        self.assertEqual([DEBIAN], list(self.shelves.sources()))

    def test_tag(self) -> None:
        """With a tag goes what hangs on it, but nothing that another tag or manifest names."""
        old, base, new = layer(b"old"), layer(b"base"), layer(b"new")
        first, second = image(old, base), image(base, new)
        self.shelves.hold(UBUNTU, first, second)
        self.tag(UBUNTU, "1", first)
        self.tag(UBUNTU, "2", second)

        removal = self.remove("ubuntu:1")

        self.assertEqual({first.digest, old.digest}, self.gone(removal))
        self.assertEqual([Tag("2")], [tag for _, tag in self.shelves.known])

    def test_tag_of_the_same(self) -> None:
        """A tag whose manifest has another tag goes alone."""
        one = image(layer(b"x"))
        self.shelves.hold(UBUNTU, one)
        self.tag(UBUNTU, "1", one)
        self.tag(UBUNTU, "2", one)

        self.assertEqual((RemovedTag(ImageReference.parse("ubuntu:1")),), self.remove("ubuntu:1").removed)
        self.assertEqual({one.digest, layer(b"x").digest}, self.gone(self.remove("ubuntu:2")))

    def test_index(self) -> None:
        """With an index go its images, unless another index has them too."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both, only = index(amd64=amd, arm64=arm), index(arm64=arm)
        self.shelves.hold(UBUNTU, both, only, amd, arm)
        self.tag(UBUNTU, "both", both)
        self.tag(UBUNTU, "arm", only)

        self.assertEqual(
            {both.digest, amd.digest, layer(b"amd").digest}, self.gone(self.remove("ubuntu:both"))
        )
        self.assertEqual(
            {only.digest, arm.digest, layer(b"arm").digest}, self.gone(self.remove("ubuntu:arm"))
        )
        self.assertEqual({}, self.shelves.manifests)

    def test_image_of_an_index(self) -> None:
        """An image that has a tag of its own outlives the index that names it."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both = index(amd64=amd, arm64=arm)
        self.shelves.hold(UBUNTU, both, amd, arm)
        self.tag(UBUNTU, "both", both)
        self.tag(UBUNTU, "amd", amd)

        gone = self.gone(self.remove("ubuntu:both"))
        self.assertEqual({both.digest, arm.digest, layer(b"arm").digest}, gone)

    def test_digest(self) -> None:
        """A digest goes whatever names it, with the tags of it and what hangs on nothing else."""
        amd, arm = image(layer(b"amd"), layer(b"base")), image(layer(b"arm"), layer(b"base"))
        both = index(amd64=amd, arm64=arm)
        self.shelves.hold(UBUNTU, both, amd, arm)
        self.tag(UBUNTU, "both", both)

        self.assertEqual({amd.digest, layer(b"amd").digest}, self.gone(self.remove(f"ubuntu@{amd.digest}")))
        blob = self.remove(f"ubuntu@{layer(b'base').digest}")
        self.assertEqual(({layer(b"base").digest}, 4), (self.gone(blob), blob.bytes))
        self.assertEqual(
            [RemovedTag(ImageReference.parse("ubuntu:both"))],
            [one for one in self.remove(f"ubuntu@{both.digest}").removed if isinstance(one, RemovedTag)],
        )

    def test_seen_only(self) -> None:
        """A tag that was only seen can be forgotten, though nothing of it is held."""
        self.shelves.known[UBUNTU, Tag("1")] = TagRecord(pending=TagObservation(image().descriptor, 0.0))
        self.assertEqual(Removal((RemovedTag(ImageReference.parse("ubuntu:1")),), 0), self.remove("ubuntu:1"))

    def test_nothing(self) -> None:
        """What is not held cannot be removed, and that is said."""
        remover = self.remover()
        self.failure(remover.remove(ImageReference.parse("ubuntu")), NameUnknown)
        self.shelves.hold(UBUNTU, image())
        self.failure(remover.remove(ImageReference.parse("ubuntu:1")), ManifestUnknown)
        self.failure(remover.remove(ImageReference.parse(f"ubuntu@{Digest.of(b'x')}")), ManifestUnknown)

    def test_being_served(self) -> None:
        """What is being served goes when its last reader has gone, unless it was linked again by then."""
        for is_linked_again in (False, True):
            with self.subTest(is_linked_again):
                served, one = layer(b"served"), image(layer(b"served"))
                self.shelves.hold(UBUNTU, one)
                self.shelves.reading[served.digest] = Deferred()

                self.assertEqual(len(one.body), self.remove("ubuntu").bytes)
                self.assertIn(served.digest, self.shelves.blobs)

                if is_linked_again:
                    self.shelves.links[DEBIAN, served.digest] = served
                self.shelves.close(served.digest)
                self.clock.pump([0.0] * 10)
                self.assertEqual(is_linked_again, served.digest in self.shelves.blobs)
