from mirrord.admin.operations import Remover
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.names import HOSTED, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal, RemovedContent, RemovedTag
from tests.unit.admin.case import OperateCase, image, index, layer

APP, WEB = RepositoryName("team/app"), RepositoryName("team/web")


class HostedRemovalTests(OperateCase):
    def remover(self) -> Remover:
        return Remover(self.router)

    def remove(self, tag: str | None = None, digest: Digest | None = None) -> Removal:
        reference = ImageReference(
            registry=HOSTED, repository=APP, tag=None if tag is None else Tag(tag), digest=digest
        )
        return self.result(self.remover().remove(reference))

    def gone(self, removal: Removal) -> set[Digest]:
        self.assertIsNone(removal.bytes)
        return {one.digest for one in removal.removed if isinstance(one, RemovedContent)}

    def tags(self, removal: Removal) -> list[str]:
        return [str(one.reference) for one in removal.removed if isinstance(one, RemovedTag)]

    def test_tag(self) -> None:
        """With a tag goes its manifest, unless it has another tag; blobs are left to a sweep."""
        one = image(layer(b"x"))
        self.hosted.push(APP, one, "1", "2")

        first = self.remove("1")
        self.assertEqual((["team/app:1"], set()), (self.tags(first), self.gone(first)))
        self.assertEqual({one.digest}, self.gone(self.remove("2")))
        self.assertEqual([(APP, layer(b"x").digest, False)], list(self.hosted.held))

    def test_index(self) -> None:
        """With an index go those of its images that nothing else names, and what is about any of them."""
        amd, arm, mine, about = image(note="amd"), image(note="arm"), image(note="mine"), image(note="sig")
        for pushed in (amd, arm):
            self.hosted.push(APP, pushed)
        self.hosted.push(APP, mine, "mine")
        both, other = index(amd64=amd, arm64=arm, riscv=mine), index(arm64=arm)
        self.hosted.push(APP, both, "both")
        self.hosted.push(APP, other, "other")
        self.hosted.push(APP, about, subject=amd.digest)

        self.assertEqual({both.digest, amd.digest, about.digest}, self.gone(self.remove("both")))
        self.assertEqual({other.digest, arm.digest}, self.gone(self.remove("other")))
        self.assertEqual([(APP, mine.digest, True)], list(self.hosted.held))

    def test_untagged(self) -> None:
        """What had no tag before and hangs on nothing that goes stays."""
        lone = self.hosted.push(APP, image(note="lone"))
        self.hosted.push(APP, image(note="1"), "1")
        self.remove("1")
        self.assertEqual([(APP, lone, True)], list(self.hosted.held))

    def test_digest(self) -> None:
        """A digest goes whatever names it, with its tags and what hangs on it alone."""
        child, about = image(note="child"), image(note="sig")
        self.hosted.push(APP, child)
        both, rest = index(amd64=child), index(arm64=image(note="rest"))
        self.hosted.push(APP, both, "1", "2")
        self.hosted.push(APP, rest, "3")
        self.hosted.push(APP, about, subject=both.digest)

        removal = self.remove(digest=both.digest)

        self.assertEqual(["team/app:1", "team/app:2"], self.tags(removal))
        self.assertEqual({both.digest, child.digest, about.digest}, self.gone(removal))
        self.assertEqual({Tag("3")}, {tag for _, tag in self.hosted.named})

    def test_part_of_an_index(self) -> None:
        """An image or a blob that something names goes all the same when it is named itself."""
        child = image(layer(b"x"))
        self.hosted.push(APP, child)
        self.hosted.push(APP, index(amd64=child), "1")
        self.assertEqual({child.digest}, self.gone(self.remove(digest=child.digest)))
        self.assertEqual({layer(b"x").digest}, self.gone(self.remove(digest=layer(b"x").digest)))
        self.assertEqual({Tag("1")}, {tag for _, tag in self.hosted.named})

    def test_repository(self) -> None:
        """All of a repository goes, and nothing of another one."""
        one = image(layer(b"x"))
        for repository in (APP, WEB):
            self.hosted.push(repository, one, "1")

        removal = self.remove()

        self.assertEqual((["team/app:1"], {one.digest}), (self.tags(removal), self.gone(removal)))
        self.assertEqual([WEB], self.hosted.repositories("", 10))
        self.assertEqual([WEB], [repository for repository, _ in self.hosted.named])

    def test_needed_again(self) -> None:
        """What somebody has come to need meanwhile is not told as removed."""
        one = image()
        self.hosted.push(APP, one, "1")
        self.hosted.needed.add(one.digest)
        self.assertEqual(set(), self.gone(self.remove("1")))

    def test_nothing(self) -> None:
        """What is not held cannot be removed, and that is said."""
        whole = ImageReference(registry=HOSTED, repository=APP)
        self.failure(self.remover().remove(whole), NameUnknown)
        self.hosted.push(APP, image(), "1")
        self.failure(
            self.remover().remove(ImageReference(registry=HOSTED, repository=APP, tag=Tag("2"))),
            ManifestUnknown,
        )
        self.failure(
            self.remover().remove(
                ImageReference(registry=HOSTED, repository=APP, tag=None, digest=Digest.of(b"x"))
            ),
            ManifestUnknown,
        )
        self.assertEqual({Tag("1")}, {tag for _, tag in self.hosted.named})
