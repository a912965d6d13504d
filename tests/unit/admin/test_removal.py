"""Tests of the removal of content by the operator (mirrored/removal.py, hosted/deletion.py)."""

import gc
import json
from typing import Any

from twisted.internet.defer import Deferred

from mirrord.admin.operations import Remover
from mirrord.admin.results import REMOVED_PER_PIECE, removal_pieces
from mirrord.hosted.deletion import HostedDeletion
from mirrord.mirrored.removal import MirroredRemoval
from mirrord.oci.content import ContentKind, HostedTag, RetentionPlan, TagObservation
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown
from mirrord.oci.manifests import Manifest
from mirrord.oci.names import HOSTED, RepositoryName, Tag
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal
from mirrord.store.browser import StoreBrowser
from mirrord.store.hosted_gc import HostedGCStore
from mirrord.store.layout import footprint
from tests.unit.admin.cases import APP, DEBIAN, EMPTY, UBUNTU, WEB, OperatorCase, image, index, layer

CONFIG = Digest.of(EMPTY)
X = layer(b"x")


def removed(removal: Removal) -> set[Digest]:
    return set(map(Digest.parse, removal.digests))


def removed_tags(removal: Removal) -> list[str]:
    removed = json.loads("".join(removal_pieces(removal)))["removed"]
    return [one["reference"] for one in removed if "reference" in one]


def digests_in_memory() -> int:
    gc.collect()
    return sum(type(found) is Digest for found in gc.get_objects())


class CountingContent:
    """Counts the digests in memory when the first manifest is read."""

    digests: int | None = None

    def __init__(self, content: StoreBrowser) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def manifest(self, digest: Digest) -> Manifest | None:
        if self.digests is None:
            self.digests = digests_in_memory()
        return await self._content.manifest(digest)


class CountingGraph:
    """Counts the tags in memory when a plan is applied."""

    counted: int | None = None

    def __init__(self, graph: HostedGCStore) -> None:
        self._graph = graph

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    async def apply_plan(self, plan: RetentionPlan) -> tuple[int, int]:
        gc.collect()
        self.counted = sum(type(found) is HostedTag for found in gc.get_objects())
        return await self._graph.apply_plan(plan)


class MirroredRemovalTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.remover = Remover(self.router)

    def remove(self, reference: str) -> Removal:
        return self.result(self.remover.remove(ImageReference.parse(reference)))

    def tags(self) -> list[Tag]:
        self.store.flush()
        return [one.tag for page in self.store.opened.browser.tags(UBUNTU) for one in page]

    def test_many_tags(self) -> None:
        """While a tag is removed the others are in memory as text, which garbage collection ignores."""
        one, other = image(note="one"), image(note="other")
        self.store.cache(UBUNTU, EMPTY, one, other)
        self.store.observe(UBUNTU, "1", one)
        for number in range(1000):
            absent = image(note=str(number))
            self.store.opened.index.observe_tag(
                UBUNTU, Tag(f"t{number}"), TagObservation(absent.descriptor, 0.0)
            )
        content: Any = CountingContent(self.store.opened.browser)
        removal = MirroredRemoval(content, self.clock)
        before = digests_in_memory()

        result = self.result(removal.remove(UBUNTU, Tag("1"), None))

        self.assertEqual({one.digest}, removed(result))
        self.assertLess(content.digests - before, 1000)

    def test_many_tags_of_a_repository(self) -> None:
        """A repository is removed a portion at a time, and the result is encoded in pieces."""
        count = 3 * REMOVED_PER_PIECE
        for number in range(count):
            absent = image(note=str(number)).descriptor
            self.store.opened.index.observe_tag(UBUNTU, Tag(f"t{number:04}"), TagObservation(absent, 0.0))
            self.store.opened.index.add_links(UBUNTU, [absent])
        self.store.flush()
        before = digests_in_memory()

        removal = self.remove("ubuntu")

        self.assertEqual((count, count), (len(removal.tags), len(removal.digests)))
        self.assertLess(digests_in_memory() - before, 100)
        pieces = [len(piece) for piece in removal_pieces(removal)]
        self.assertEqual(7, len(pieces))
        self.assertLess(max(pieces), 2 * sum(pieces) / 6)
        self.assertEqual("ubuntu:t0000", removed_tags(removal)[0])

    def test_repository(self) -> None:
        """A repository is removed with its tags, its links and the content that no other one links."""
        mine, shared = layer(b"mine"), layer(b"shared")
        here, there = image(mine, shared), image(shared)
        self.store.cache(UBUNTU, EMPTY, b"mine", b"shared", here)
        self.store.cache(DEBIAN, EMPTY, b"shared", there)
        self.store.observe(UBUNTU, "1", here)

        removal = self.remove("ubuntu")

        self.assertEqual(["ubuntu:1"], removed_tags(removal))
        self.assertEqual({here.digest, mine.digest, shared.digest, CONFIG}, removed(removal))
        self.assertEqual(footprint(len(here.body)) + footprint(mine.size), removal.bytes)
        self.assertEqual(
            [False, False, True, True, True],
            [
                self.store.has(digest)
                for digest in (here.digest, mine.digest, shared.digest, CONFIG, there.digest)
            ],
        )
        self.store.flush()
        self.assertEqual([DEBIAN], list(self.store.opened.browser.sources()))

    def test_tag(self) -> None:
        """A tag is removed with what depends on it alone."""
        old, base, new = layer(b"old"), layer(b"base"), layer(b"new")
        first, second = image(old, base), image(base, new)
        self.store.cache(UBUNTU, b"old", b"base", b"new", first, second)
        self.store.observe(UBUNTU, "1", first)
        self.store.observe(UBUNTU, "2", second)

        removal = self.remove("ubuntu:1")

        self.assertEqual({first.digest, old.digest}, removed(removal))
        self.assertEqual([Tag("2")], self.tags())
        self.assertEqual(
            [False, False, True, True],
            [self.store.has(one.digest) for one in (first.descriptor, old, base, second.descriptor)],
        )

    def test_tag_of_the_same_manifest(self) -> None:
        """A tag whose manifest has another tag is removed alone."""
        one = image(X)
        self.store.cache(UBUNTU, EMPTY, b"x", one)
        self.store.observe(UBUNTU, "1", one)
        self.store.observe(UBUNTU, "2", one)

        self.assertEqual(Removal(UBUNTU, ("1",), (), 0), self.remove("ubuntu:1"))
        self.assertEqual({one.digest, X.digest, CONFIG}, removed(self.remove("ubuntu:2")))

    def test_index(self) -> None:
        """An index is removed with its images, except those that are in another index."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both, only = index(amd64=amd, arm64=arm), index(arm64=arm)
        self.store.cache(UBUNTU, EMPTY, b"amd", b"arm", amd, arm, both, only)
        self.store.observe(UBUNTU, "both", both)
        self.store.observe(UBUNTU, "arm", only)

        self.assertEqual({both.digest, amd.digest, layer(b"amd").digest}, removed(self.remove("ubuntu:both")))
        self.assertEqual(
            {only.digest, arm.digest, layer(b"arm").digest, CONFIG}, removed(self.remove("ubuntu:arm"))
        )
        for manifest in (both, only, amd, arm):
            self.assertFalse(self.store.has(manifest.digest))

    def test_image_of_an_index(self) -> None:
        """An image with a tag of its own survives the index that references it."""
        amd, arm = image(layer(b"amd")), image(layer(b"arm"))
        both = index(amd64=amd, arm64=arm)
        self.store.cache(UBUNTU, b"amd", b"arm", amd, arm, both)
        self.store.observe(UBUNTU, "both", both)
        self.store.observe(UBUNTU, "amd", amd)

        expected = {both.digest, arm.digest, layer(b"arm").digest}
        self.assertEqual(expected, removed(self.remove("ubuntu:both")))

    def test_digest(self) -> None:
        """A digest is removed though manifests reference it, with its tags and what depends on it alone."""
        amd, arm = image(layer(b"amd"), layer(b"base")), image(layer(b"arm"), layer(b"base"))
        both = index(amd64=amd, arm64=arm)
        self.store.cache(UBUNTU, b"amd", b"arm", b"base", amd, arm, both)
        self.store.observe(UBUNTU, "both", both)

        self.assertEqual({amd.digest, layer(b"amd").digest}, removed(self.remove(f"ubuntu@{amd.digest}")))
        blob = self.remove(f"ubuntu@{layer(b'base').digest}")
        self.assertEqual(({layer(b"base").digest}, footprint(4)), (removed(blob), blob.bytes))
        self.assertEqual(["ubuntu:both"], removed_tags(self.remove(f"ubuntu@{both.digest}")))

    def test_pending(self) -> None:
        """A tag that was only observed can be removed, though nothing of it is stored."""
        self.store.observe(UBUNTU, "1", image())
        self.assertEqual(Removal(UBUNTU, ("1",), (), 0), self.remove("ubuntu:1"))
        self.assertEqual([], self.tags())

    def test_unknown(self) -> None:
        """Removing what is not stored is an error."""
        self.failure(self.remover.remove(ImageReference.parse("ubuntu")), NameUnknown)
        self.store.cache(UBUNTU, image())
        self.failure(self.remover.remove(ImageReference.parse("ubuntu:1")), ManifestUnknown)
        unknown = ImageReference.parse(f"ubuntu@{Digest.of(b'x')}")
        self.failure(self.remover.remove(unknown), ManifestUnknown)

    def test_being_read(self) -> None:
        """A blob that is being read is deleted after its last reader, unless it was linked again by then."""
        served = layer(b"served")
        for is_linked_again in (False, True):
            with self.subTest(is_linked_again):
                one = image(served)
                self.store.cache(UBUNTU, b"served", one)
                reader = self.store.opened.blobs.open(served.digest)
                assert reader is not None

                self.assertEqual(footprint(len(one.body)), self.remove("ubuntu").bytes)
                self.assertTrue(self.store.has(served.digest))

                if is_linked_again:
                    self.store.link(DEBIAN, served)
                reader.close()
                self.clock.pump([0.0] * 10)
                self.assertEqual(is_linked_again, self.store.has(served.digest))


class HostedRemovalTests(OperatorCase):
    def setUp(self) -> None:
        super().setUp()
        self.remover = Remover(self.router)
        self.push(APP, EMPTY, b"x")

    def push(self, name: RepositoryName, *content: Manifest | bytes, tags: tuple[str, ...] = ()) -> None:
        self.repositories.push(name, *content, tags=tags)

    def remove(self, tag: str | None = None, digest: Digest | None = None) -> Removal:
        removal = self.result(self.remover.remove(self.reference(tag, digest)))
        self.assertIsNone(removal.bytes)
        return removal

    def reference(self, tag: str | None = None, digest: Digest | None = None) -> ImageReference:
        return ImageReference(
            registry=HOSTED, repository=APP, tag=None if tag is None else Tag(tag), digest=digest
        )

    def linked(self, kind: ContentKind, name: RepositoryName = APP) -> set[Digest]:
        is_manifest = kind is ContentKind.MANIFEST
        links = (link for page in self.store.opened.hosted.links(name) for link in page)
        return {link.descriptor.digest for link in links if link.is_manifest is is_manifest}

    def tags(self, name: RepositoryName = APP) -> list[str]:
        return self.store.opened.hosted.tags(name, "", 100)

    def test_tag(self) -> None:
        """A tag is removed with its manifest, unless that has another tag; a sweep removes the blobs."""
        one = image(X)
        self.push(APP, one, tags=("1", "2"))

        first = self.remove("1")
        self.assertEqual((["team/app:1"], set()), (removed_tags(first), removed(first)))
        self.assertEqual({one.digest}, removed(self.remove("2")))
        self.assertEqual(set(), self.linked(ContentKind.MANIFEST))
        self.assertEqual({X.digest, CONFIG}, self.linked(ContentKind.BLOB))

    def test_index(self) -> None:
        """An index is removed with its images that depend on it alone, and with their signatures."""
        amd, arm, mine = image(note="amd"), image(note="arm"), image(note="mine")
        signature = image(note="signature", subject=amd)
        self.push(APP, amd, arm)
        self.push(APP, mine, tags=("mine",))
        both, other = index(amd64=amd, arm64=arm, riscv=mine), index(arm64=arm)
        self.push(APP, both, tags=("both",))
        self.push(APP, other, tags=("other",))
        self.push(APP, signature)

        self.assertEqual({both.digest, amd.digest, signature.digest}, removed(self.remove("both")))
        self.assertEqual({other.digest, arm.digest}, removed(self.remove("other")))
        self.assertEqual({mine.digest}, self.linked(ContentKind.MANIFEST))

    def test_many_tags(self) -> None:
        """While a tag is removed the others are not in memory; nor is each tag of a repository an object."""
        names = tuple(f"t{number:04}" for number in range(1000))
        self.push(APP, image(), tags=names)
        opened = self.store.opened
        graph: Any = CountingGraph(opened.hosted_gc)
        deletion = HostedDeletion(links=opened.hosted, graph=graph, clock=self.clock)

        removal = self.result(deletion.remove(APP, Tag("t0001"), None))

        self.assertEqual((("t0001",), ()), (removal.tags, removal.digests))
        self.assertEqual(1, graph.counted)
        self.assertEqual(999, len(self.remove().tags))

    def test_untagged(self) -> None:
        """A manifest that was untagged before stays, unless it depends on what is removed."""
        lone = image(note="lone")
        self.push(APP, lone)
        self.push(APP, image(note="1"), tags=("1",))
        self.remove("1")
        self.assertEqual({lone.digest}, self.linked(ContentKind.MANIFEST))

    def test_digest(self) -> None:
        """A digest is removed with its tags and with what depends on it alone."""
        child, rest = image(note="child"), image(note="rest")
        both, other = index(amd64=child), index(arm64=rest)
        signature = image(note="signature", subject=both)
        self.push(APP, child, rest)
        self.push(APP, both, tags=("1", "2"))
        self.push(APP, other, tags=("3",))
        self.push(APP, signature)

        removal = self.remove(digest=both.digest)

        self.assertEqual(["team/app:1", "team/app:2"], removed_tags(removal))
        self.assertEqual({both.digest, child.digest, signature.digest}, removed(removal))
        self.assertEqual(["3"], self.tags())

    def test_part_of_an_index(self) -> None:
        """An image or a blob is removed by its digest though a manifest references it."""
        child = image(X)
        self.push(APP, child)
        self.push(APP, index(amd64=child), tags=("1",))
        self.assertEqual({child.digest}, removed(self.remove(digest=child.digest)))
        self.assertEqual({X.digest}, removed(self.remove(digest=X.digest)))
        self.assertEqual({CONFIG}, self.linked(ContentKind.BLOB))
        self.assertEqual(["1"], self.tags())

    def test_repository(self) -> None:
        """A repository is removed completely, and no other one."""
        one = image(X)
        self.push(WEB, EMPTY, b"x")
        for name in (APP, WEB):
            self.push(name, one, tags=("1",))

        removal = self.remove()

        self.assertEqual((["team/app:1"], {one.digest}), (removed_tags(removal), removed(removal)))
        self.assertEqual([WEB], self.store.opened.hosted.repositories("", 10))
        self.assertEqual(([], ["1"]), (self.tags(), self.tags(WEB)))

    def test_referenced_again(self) -> None:
        """A manifest that is referenced by a push during the removal stays, and is not reported."""
        one = image()
        self.push(APP, one, tags=("1",))
        removing = self.begin_removal("1")
        self.push(APP, index(amd64=one))
        self.clock.pump([0.0] * 200)

        removal = self.successResultOf(removing)
        self.assertEqual((["team/app:1"], set()), (removed_tags(removal), removed(removal)))
        self.assertIn(one.digest, self.linked(ContentKind.MANIFEST))

    def begin_removal(self, tag: str) -> Deferred[Removal]:
        """Begin a removal, which has read the manifests when this returns."""
        return Deferred.fromCoroutine(self.remover.remove(self.reference(tag)))

    def test_unknown(self) -> None:
        """Removing what is not stored is an error, and removes nothing."""
        self.remove()
        self.failure(self.remover.remove(self.reference()), NameUnknown)
        self.push(APP, EMPTY, image(), tags=("1",))
        for reference in (self.reference("2"), self.reference(digest=Digest.of(b"y"))):
            self.failure(self.remover.remove(reference), ManifestUnknown)
        self.assertEqual(["1"], self.tags())
