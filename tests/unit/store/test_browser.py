import errno

from mirrord.oci.content import ContentKind, TagRecord
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.store.layout import BLOCK_BYTES
from mirrord.store.schema import PAGE_ROWS
from tests.fakes.stores import content_path
from tests.unit.store.cases import DEBIAN, LATEST, UBUNTU, StoreTestCase, layer, manifest, observation

QUAY = RepositoryKey("quay.io", RepositoryName("a/b"))


class StoreBrowserTests(StoreTestCase):
    def flush(self) -> None:
        self.result(self.store.browser.flush())

    def store_image(self, source: RepositoryKey, *bodies: bytes) -> Digest:
        """Store an image with these layers."""
        image = manifest(*map(layer, bodies))
        for body in bodies:
            self.add_blob(body)
        self.store.index.add_links(source, image.references())
        self.add_manifest(source, image)
        return image.digest

    def test_sources(self) -> None:
        """Every repository with a link or a tag is listed once, sorted."""
        self.store_image(UBUNTU, b"one", b"two")
        self.store.index.observe_tag(QUAY, LATEST, observation(manifest()))
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest()))
        self.store.index.add_links(DEBIAN, [layer(b"one")])
        self.flush()

        self.assertEqual([DEBIAN, UBUNTU, QUAY], list(self.store.browser.sources()))

    def test_content_links(self) -> None:
        """A link is listed with its content's kind and size in whole blocks, and when it was last used."""
        image = self.store_image(UBUNTU, b"stored")
        self.store.index.add_links(UBUNTU, [layer(b"absent")])
        self.wall.advance(1000)
        self.clock.advance(10)
        self.flush()
        self.wall.advance(5)
        self.clock.advance(5)

        (page,) = self.store.browser.content_links(UBUNTU)

        found = {link.descriptor.digest: link for link in page}
        self.assertEqual((ContentKind.MANIFEST, BLOCK_BYTES, True), self.summary(found[image]))
        self.assertEqual((ContentKind.BLOB, BLOCK_BYTES, False), self.summary(found[layer(b"stored").digest]))
        self.assertEqual((None, 0, False), self.summary(found[layer(b"absent").digest]))
        self.assertEqual({1005.0 - 15}, {link.used_at for link in page})

    def summary(self, link: object) -> tuple[object, object, object]:
        return link.kind, link.size, link.is_manifest  # type: ignore[attr-defined]

    def test_pages(self) -> None:
        """However many links and tags there are, each is listed once, a page at a time."""
        descriptors = [Descriptor("", Digest.of(b"%d" % number), 1) for number in range(600)]
        self.store.index.add_links(UBUNTU, descriptors)
        for number in range(300):
            self.store.index.observe_tag(UBUNTU, Tag(f"v{number}"), observation(manifest()))
        self.flush()

        pages = list(self.store.browser.content_links(UBUNTU))
        self.assertEqual([256, 256, 88], list(map(len, pages)))
        self.assertEqual(600, len({link.descriptor.digest for page in pages for link in page}))
        self.assertEqual(300, len({known.tag for page in self.store.browser.tags(UBUNTU) for known in page}))

    def test_tags(self) -> None:
        """A tag is cached as long as its manifest is stored."""
        image = manifest()
        self.add_manifest(UBUNTU, image)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(image))
        self.flush()
        ((known,),) = self.store.browser.tags(UBUNTU)
        self.assertEqual((LATEST, TagRecord(cached=observation(image))), (known.tag, known.record))
        self.assertEqual(known.record, self.store.browser.tag(UBUNTU, LATEST))

        self.result(self.store.browser.remove([image.digest]))
        self.assertEqual(TagRecord(pending=observation(image)), self.store.browser.tag(UBUNTU, LATEST))

    def test_looking_is_no_use(self) -> None:
        """Listing content does not protect it from eviction."""
        image = self.store_image(UBUNTU, b"stored")
        self.store.index.observe_tag(UBUNTU, LATEST, observation(manifest(layer(b"stored"))))
        self.flush()
        self.clock.advance(100)
        before = [(entry.name, entry.idle_seconds) for entry in self.store.eviction.entries()]

        browser = self.store.browser
        browser.link(UBUNTU, image)
        browser.tag(UBUNTU, LATEST)
        browser.size_of(ContentKind.BLOB, layer(b"stored").digest)
        self.assertIsNotNone(self.result(browser.manifest(image)))
        self.flush()

        self.assertEqual(
            before, [(entry.name, entry.idle_seconds) for entry in self.store.eviction.entries()]
        )
        self.assertEqual(2, sum(self.store.index.forget_unused(50)) - 1)

    def test_manifest(self) -> None:
        """A manifest is read from the disk and verified; a damaged or missing one is None."""
        image = manifest(layer(b"x"))
        self.add_manifest(UBUNTU, image)
        self.assertEqual(image, self.result(self.store.browser.manifest(image.digest)))

        path = content_path(self.layout, ContentKind.MANIFEST, image.digest)
        path.write_bytes(b"{}")
        self.assertIsNone(self.result(self.store.browser.manifest(image.digest)))
        path.unlink()
        self.assertIsNone(self.result(self.store.browser.manifest(image.digest)))
        self.assertIsNone(self.result(self.store.browser.manifest(Digest.of(b"other"))))

    def test_links_to(self) -> None:
        """All repositories that may read a digest are found, whether their links are written yet or not."""
        shared, own = layer(b"shared"), layer(b"own")
        self.store.index.add_links(UBUNTU, [shared, own])
        self.store.index.add_links(QUAY, [shared])
        self.flush()
        self.store.index.add_links(DEBIAN, [shared])

        found = {pair for page in self.store.browser.links_to([shared.digest]) for pair in page}

        self.assertEqual({(source, shared.digest) for source in (UBUNTU, DEBIAN, QUAY)}, found)

    def test_links_to_in_slices(self) -> None:
        """A slice looks up so many pairs of a repository and a digest, for one digest or for many."""
        names = [layer(b"%d" % number) for number in range(PAGE_ROWS + 1)]
        sources = [RepositoryKey("docker.io", RepositoryName(f"r{number:04}")) for number in range(1100)]
        for source in sources:
            self.store.index.add_links(source, names[:1])
        self.store.index.add_links(QUAY, names[-1:])
        self.flush()

        for digests, pages in (([names[0].digest], 2 + 1), ([name.digest for name in names], 275 + 2 + 2)):
            found = list(self.store.browser.links_to(digests))
            self.assertEqual(1 + pages, len(found))
            linked = {source for page in found for source, _ in page}
            self.assertEqual(len(sources) + len(digests) // len(names), len(linked))
            self.assertLessEqual(max(map(len, found)), 1024)

    def test_unlink(self) -> None:
        """Unlinked content cannot be read through that repository, and still through others."""
        for source in (UBUNTU, DEBIAN):
            self.store.index.add_links(source, [layer(b"x")])
        self.store.browser.unlink(UBUNTU, layer(b"x").digest)

        self.assertIsNone(self.store.index.link(UBUNTU, layer(b"x").digest))
        self.assertIsNotNone(self.store.index.link(DEBIAN, layer(b"x").digest))

    def test_remove(self) -> None:
        """Content and its partial are deleted from the disk; content that is being read stays."""
        image = self.store_image(UBUNTU, b"one", b"two")
        one, two, three = (Digest.of(body) for body in (b"one", b"two", b"three"))
        partial = self.result(self.store.blobs.create_partial(three, is_kept=True))
        self.result(partial.write(b"thr"))
        self.result(partial.park())
        self.assertEqual(3, self.store.browser.partial_size(three))
        reading = self.store.blobs.open(two)
        assert reading is not None

        gone = self.result(self.store.browser.remove([image, one, two, three, Digest.of(b"none")]))

        self.assertEqual(
            [ContentKind.MANIFEST, ContentKind.BLOB, ContentKind.PARTIAL], [entry.kind for entry in gone]
        )
        self.assertFalse(self.layout.partial(three).exists())
        self.assertIsNone(self.store.blobs.size_of(one))
        self.assertEqual(3, self.store.blobs.size_of(two))
        self.assertIsNone(self.store.browser.partial_size(three))
        reading.close()

    def test_remove_recently_used_content(self) -> None:
        """The operator can remove content that was requested a moment ago."""
        digest = self.add_blob(b"popular")
        self.clock.advance(100)
        self.read_blob(digest)

        self.assertEqual(1, len(self.result(self.store.browser.remove([digest]))))

    def test_closed(self) -> None:
        """`when_unpinned` fires when the last reader closes a blob, and at once without a reader."""
        digest = self.add_blob(b"x" * 100_000)
        first, second = self.store.blobs.open(digest), self.store.blobs.open(digest)
        assert first is not None
        assert second is not None
        closed = self.store.browser.when_unpinned(digest)
        first.close()
        self.assertNoResult(closed)
        self.assertTrue(self.store.browser.is_pinned(digest))
        second.close()
        self.assertIsNone(self.successResultOf(closed))
        self.assertIsNone(self.successResultOf(self.store.browser.when_unpinned(digest)))
        self.assertFalse(self.store.browser.is_pinned(digest))

    def test_full_disk(self) -> None:
        """A flush that the disk refuses raises OSError."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.threads.failures["_run"] = OSError(errno.EIO, "no")
        self.failure(self.store.browser.flush(), OSError)
