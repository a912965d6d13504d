import errno

from mirrord.oci.content import ContentKind, Entry, TagRecord
from mirrord.oci.names import RepositoryKey, RepositoryName, Tag
from mirrord.store.database import HOT_ROWS
from tests.unit.store.cases import DEBIAN, LATEST, UBUNTU, StoreTestCase, layer, manifest, observation

OLD, NEW = manifest(note="old"), manifest(note="new")


class LinkTests(StoreTestCase):
    def test_a_link_is_for_one_source(self) -> None:
        """Only the source that content was fetched through may read it."""
        blob = layer(b"x")
        self.store.index.add_links(UBUNTU, [blob])
        self.assertEqual(blob, self.store.index.link(UBUNTU, blob.digest))
        self.assertIsNone(self.store.index.link(DEBIAN, blob.digest))
        self.assertIsNone(self.store.index.link(RepositoryKey("ghcr.io", UBUNTU.repository), blob.digest))

    def test_links_survive(self) -> None:
        """A link is there after a restart, and after kill -9 a moment later."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.reopen()
        self.store.index.add_links(UBUNTU, [layer(b"y")])
        self.clock.advance(1)
        self.kill()
        for body in (b"x", b"y"):
            self.assertEqual(layer(body), self.store.index.link(UBUNTU, layer(body).digest))

    def test_a_manifest_does_not_link_its_references(self) -> None:
        """Storing a manifest lets its source read it, and nothing that it references."""
        image = manifest(layer(b"x"))
        self.add_blob(b"x")
        self.add_manifest(UBUNTU, image)
        self.assertEqual(image.descriptor, self.store.index.link(UBUNTU, image.digest))
        self.assertIsNone(self.store.index.link(UBUNTU, layer(b"x").digest))

    def test_a_look_is_no_use(self) -> None:
        """`is_linked` finds a link without counting as a use of it."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(100)
        self.assertTrue(self.store.index.is_linked(UBUNTU, layer(b"x").digest))
        self.assertFalse(self.store.index.is_linked(DEBIAN, layer(b"x").digest))
        self.assertEqual(1, sum(self.store.index.forget_unused(50)))

    def test_few_rows_are_remembered(self) -> None:
        """However many links are read, only the latest are cached in memory, and all are found."""
        links = [layer(b"%d" % number) for number in range(HOT_ROWS + 100)]
        self.store.index.add_links(UBUNTU, links)
        self.clock.advance(1)
        for link in links:
            self.assertEqual(link, self.store.index.link(UBUNTU, link.digest))
        self.assertEqual(HOT_ROWS, len(self.store.database._hot))

    def test_known_links_are_not_written_again(self) -> None:
        """Adding an existing link writes nothing."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(1)
        self.threads.called.clear()
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(1)
        self.assertNotIn("_run", self.threads.called)


class TagTests(StoreTestCase):
    def test_an_unseen_tag_is_unknown(self) -> None:
        """A tag that was never observed has no record."""
        self.assertIsNone(self.store.index.tag(UBUNTU, LATEST))

    def test_an_observation_is_pending(self) -> None:
        """A tag that was only observed has no cached manifest."""
        record = self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.assertEqual(TagRecord(pending=observation(NEW)), record)
        self.assertEqual(record, self.store.index.tag(UBUNTU, LATEST))

    def test_storing_its_manifest_makes_it_cached(self) -> None:
        """A pending tag becomes cached when its manifest is stored in that repository, by whatever route."""
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.store.index.observe_tag(UBUNTU, Tag("24.04"), observation(NEW))
        self.store.index.observe_tag(DEBIAN, LATEST, observation(NEW))
        self.add_manifest(UBUNTU, NEW)
        for tag in (LATEST, Tag("24.04")):
            self.assertEqual(TagRecord(cached=observation(NEW)), self.store.index.tag(UBUNTU, tag))
        self.assertEqual(TagRecord(pending=observation(NEW)), self.store.index.tag(DEBIAN, LATEST))

    def test_a_pending_tag_of_an_earlier_run_becomes_cached(self) -> None:
        """A pending tag that is in the file already becomes cached like one in memory."""
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.reopen()
        self.add_manifest(UBUNTU, NEW)
        self.assertEqual(TagRecord(cached=observation(NEW)), self.store.index.tag(UBUNTU, LATEST))

    def test_an_outdated_observation_does_not_become_cached(self) -> None:
        """Storing an earlier manifest of a tag does not make the tag cached."""
        self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD))
        self.reopen()
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.add_manifest(UBUNTU, OLD)
        self.assertEqual(TagRecord(pending=observation(NEW)), self.store.index.tag(UBUNTU, LATEST))

    def test_a_pending_observation_never_replaces_a_cached_one(self) -> None:
        """The old manifest stays cached until the new one is stored."""
        self.add_manifest(UBUNTU, OLD)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD))
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW, 5.0))
        expected = TagRecord(cached=observation(OLD), pending=observation(NEW, 5.0))
        self.assertEqual(expected, self.store.index.tag(UBUNTU, LATEST))
        self.add_manifest(UBUNTU, NEW)
        self.assertEqual(TagRecord(cached=observation(NEW, 5.0)), self.store.index.tag(UBUNTU, LATEST))

    def test_a_manifest_that_cannot_be_stored_replaces_nothing(self) -> None:
        """When the disk refuses the new manifest, the old one stays cached."""
        self.add_manifest(UBUNTU, OLD)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD))
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.threads.failures["_write_once"] = OSError(errno.ENOSPC, "full")
        self.failure(self.store.manifests.store(UBUNTU, NEW), OSError)
        record = self.store.index.tag(UBUNTU, LATEST)
        assert record is not None
        self.assertEqual(observation(OLD), record.cached)
        self.assertIsNone(self.result(self.store.manifests.read(NEW.digest)))

    def test_observing_the_cached_manifest_refreshes_it(self) -> None:
        """An observation of the cached manifest refreshes the tag."""
        self.add_manifest(UBUNTU, OLD)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD, 1.0))
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW, 2.0))
        record = self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD, 3.0))
        self.assertEqual(TagRecord(cached=observation(OLD, 3.0)), record)

    def test_stored_for_another_is_not_cached(self) -> None:
        """A manifest that another repository stored is not cached here until it is linked here."""
        self.add_manifest(DEBIAN, NEW)
        record = self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.assertEqual(TagRecord(pending=observation(NEW)), record)

    def test_an_evicted_manifest_is_no_longer_cached(self) -> None:
        """A tag whose manifest was evicted is pending."""
        self.add_manifest(UBUNTU, OLD)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(OLD))
        self.result(
            self.store.eviction.evict(
                [Entry(kind=ContentKind.MANIFEST, name=str(OLD.digest), size=4096, idle_seconds=0.0)]
            )
        )
        self.assertEqual(TagRecord(pending=observation(OLD)), self.store.index.tag(UBUNTU, LATEST))

    def test_a_deleted_tag_is_unknown(self) -> None:
        """A deleted tag has no record, now and after a restart."""
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.reopen()
        self.store.index.delete_tag(UBUNTU, LATEST)
        self.assertIsNone(self.store.index.tag(UBUNTU, LATEST))
        self.reopen()
        self.assertIsNone(self.store.index.tag(UBUNTU, LATEST))


class RepositoryTests(StoreTestCase):
    def test_repositories_are_those_with_a_manifest(self) -> None:
        """A repository is listed from its first stored manifest on, at once and after a restart, sorted."""
        self.store.index.add_links(RepositoryKey("docker.io", RepositoryName("blobs/only")), [layer(b"x")])
        self.add_manifest(UBUNTU, NEW)
        self.add_manifest(DEBIAN, NEW)
        self.add_manifest(RepositoryKey("ghcr.io", RepositoryName("else/where")), OLD)
        expected = [(DEBIAN.repository, True), (UBUNTU.repository, True)]
        self.assertEqual(expected, self.store.index.repositories("docker.io", "", 9))
        self.reopen()
        self.assertEqual(expected, self.store.index.repositories("docker.io", "", 9))

    def test_pages(self) -> None:
        """Pages follow one another without a gap, whether their rows are in the file yet or not."""
        names = [f"r{number}" for number in range(8)]
        for name in names[::2]:
            self.add_manifest(RepositoryKey("docker.io", RepositoryName(name)), NEW)
        self.reopen()
        for name in names[1::2]:
            self.add_manifest(RepositoryKey("docker.io", RepositoryName(name)), NEW)
        seen: list[str] = []
        while page := self.store.index.repositories("docker.io", seen[-1] if seen else "", 3):
            self.assertGreaterEqual(3, len(page))
            seen += [repository.name for repository, _ in page]

        self.assertEqual(names, seen)

    def test_an_evicted_one_returns_with_its_manifest(self) -> None:
        """A repository has a stored manifest again once the evicted one is stored anew, as a manifest."""
        self.add_manifest(UBUNTU, NEW)
        self.result(
            self.store.eviction.evict(
                [Entry(kind=ContentKind.MANIFEST, name=str(NEW.digest), size=4096, idle_seconds=0.0)]
            )
        )
        self.add_blob(NEW.body)
        self.clock.advance(1)
        self.assertEqual([(UBUNTU.repository, False)], self.store.index.repositories("docker.io", "", 9))
        self.add_manifest(UBUNTU, NEW)
        self.assertEqual([(UBUNTU.repository, True)], self.store.index.repositories("docker.io", "", 9))


class ForgettingTests(StoreTestCase):
    def forget(self, idle_seconds: float) -> int:
        return sum(self.store.eviction.forget_unused(idle_seconds))

    def test_unused_rows_are_deleted(self) -> None:
        """Links and tags that were not used for long are deleted; others stay."""
        self.store.index.add_links(UBUNTU, [layer(b"%d" % number) for number in range(600)])
        self.store.index.observe_tag(UBUNTU, LATEST, observation(NEW))
        self.store.index.observe_tag(UBUNTU, Tag("used"), observation(NEW))
        self.clock.advance(100)
        self.store.index.link(UBUNTU, layer(b"7").digest)
        self.store.index.tag(UBUNTU, Tag("used"))
        self.clock.advance(50)
        self.assertEqual(600, self.forget(100))
        self.assertIsNotNone(self.store.index.link(UBUNTU, layer(b"7").digest))
        self.assertIsNone(self.store.index.link(UBUNTU, layer(b"8").digest))
        self.assertIsNotNone(self.store.index.tag(UBUNTU, Tag("used")))
        self.assertIsNone(self.store.index.tag(UBUNTU, LATEST))

    def test_time_out_of_service_does_not_count(self) -> None:
        """A month switched off makes nothing older."""
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.clock.advance(10)
        self.result(self.store.close())
        self.clock.advance(30 * 86400)
        self.wall.advance(30 * 86400)
        self.store = self.open()
        self.assertEqual(0, self.forget(60))
        self.clock.advance(60)
        self.assertEqual(1, self.forget(60))
