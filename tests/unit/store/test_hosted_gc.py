from twisted.internet.defer import Deferred

from mirrord.oci.content import Entry, HostedManifest, HostedTag, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor, Manifest
from mirrord.oci.names import RepositoryName
from mirrord.store import hosted_index
from tests.unit.store.cases import APP, UBUNTU, V1, V2, WEB, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))
X = Digest.of(b"x")


class HostedGCTestCase(PushTestCase):
    def lone(self, grace_seconds: float = 60.0) -> list[tuple[RepositoryName, Digest]]:
        return [each for page in self.store.hosted_gc.unreferenced(grace_seconds) for each in page]

    def unlinked(self) -> list[Entry]:
        self.result(self.store.eviction.flush())
        return [entry for page in self.store.hosted_gc.unlinked() for entry in page]


class UnreferencedTests(HostedGCTestCase):
    def test_the_grace_time(self) -> None:
        """A blob that no manifest of its repository references is collected after the grace time."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, repository=WEB)
        self.pass_time(59)
        self.assertEqual([], self.lone())
        self.pass_time(1)
        self.assertEqual([(APP, X)], self.lone())

    def test_asking_for_it_keeps_it(self) -> None:
        """A blob that a pushing client requested stays for the grace time."""
        self.push_blob(b"x")
        self.pass_time(59)
        self.assertTrue(self.has(X))
        self.pass_time(59)
        self.assertEqual([], self.lone())
        self.pass_time(1)
        self.assertEqual([(APP, X)], self.lone())

    def test_a_start_keeps_all(self) -> None:
        """After a restart all blobs count as just requested."""
        self.push_blob(b"x")
        self.pass_time(100)
        self.reopen()
        self.assertEqual([], self.lone())
        self.pass_time(60)
        self.assertEqual([(APP, X)], self.lone())

    def test_more_requests_than_entries(self) -> None:
        """When more blobs are requested than there are entries for, none is collected too early."""
        self.push_blob(b"x")
        self.pass_time(100)
        self.assertTrue(self.has(X))
        for number in range(hosted_index.MAX_ACCESS_TIMES):
            self.store.hosted.access_times.record("other", str(number), self.store.database.now())
        self.pass_time(59)
        self.assertEqual([], self.lone())

    def test_blobs_referenced_since_they_were_listed_stay(self) -> None:
        """A manifest that is pushed during a sweep protects its blobs."""
        self.push_blob(b"x")
        self.pass_time(60)
        lone = self.lone()
        self.push_manifest(IMAGE, V1)
        self.assertEqual(0, self.result(self.store.hosted_gc.unlink(lone, 60.0)))
        self.assertTrue(self.has(X))

    def test_blobs_requested_since_they_were_listed_stay(self) -> None:
        """A blob that was requested since it was listed as unreferenced stays."""
        self.push_blob(b"x")
        self.pass_time(60)
        lone = self.lone()
        self.assertTrue(self.has(X))
        self.assertEqual(0, self.result(self.store.hosted_gc.unlink(lone, 60.0)))

    def test_a_blob_being_removed_counts_as_absent(self) -> None:
        """A blob that is being removed counts as absent until it is pushed again."""
        self.push_blob(b"x")
        self.pass_time(60)
        self.threads.hold()
        going = Deferred.fromCoroutine(self.store.hosted_gc.unlink(self.lone(), 60.0))
        self.assertFalse(self.has(X))
        mounting = Deferred.fromCoroutine(self.store.hosted.add_blob(APP, Descriptor(OCTET_STREAM, X, 1)))
        self.threads.release()
        self.assertEqual((1, True), (self.successResultOf(going), self.successResultOf(mounting)))
        self.assertTrue(self.has(X))

    def test_many_are_read_page_by_page(self) -> None:
        """More blobs than a page has are all listed once."""
        for number in range(300):
            self.push_blob(b"%d" % number)
        self.pass_time(60)
        pages = list(self.store.hosted_gc.unreferenced(60.0))
        self.assertEqual([256, 44], list(map(len, pages)))
        self.assertEqual(300, len({each for page in pages for each in page}))


class UnlinkedTests(HostedGCTestCase):
    def test_content_is_deleted_with_its_last_link(self) -> None:
        """Content stays while one hosted repository links to it, and is deleted after the last link."""
        self.push_blob(b"x")
        self.push_blob(b"x", WEB)
        self.result(self.store.hosted.delete(APP, X))
        self.assertEqual([], self.unlinked())
        self.result(self.store.hosted.delete(WEB, X))
        entries = self.unlinked()
        self.assertEqual([str(X)], [entry.name for entry in entries])
        self.assertEqual(entries, self.result(self.store.hosted_gc.remove(entries)))
        self.assertEqual((None, 0), (self.read_blob(X), self.store.hosted_gc.total_bytes))

    def test_content_that_is_linked_again_stays(self) -> None:
        """Content that was mounted after it was listed is neither removed nor marked as mirrored."""
        self.push_blob(b"x")
        self.result(self.store.hosted.delete(APP, X))
        entries = self.unlinked()
        self.result(self.store.hosted.add_blob(WEB, Descriptor(OCTET_STREAM, X, 1)))
        self.result(self.store.hosted_gc.return_to_cache(entries))
        self.assertEqual([], self.result(self.store.hosted_gc.remove(entries)))
        self.evict_all()
        self.assertEqual(b"x", self.read_blob(X))

    def test_content_that_is_mirrored_too_becomes_mirrored(self) -> None:
        """Content that a mirrored repository links to becomes mirrored, and can be evicted."""
        self.push_blob(b"x")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.result(self.store.hosted.delete(APP, X))
        entries = self.unlinked()
        mirrored = set().union(*self.store.hosted_gc.mirrored(entries))
        self.assertEqual({str(X)}, mirrored)
        self.result(self.store.hosted_gc.return_to_cache(entries))
        self.assertEqual((4096, 0), (self.store.eviction.total_bytes, self.store.hosted_gc.total_bytes))
        self.evict_all()
        self.assertIsNone(self.read_blob(X))


class PlanTests(HostedGCTestCase):
    def plan(self, *manifests: Manifest, tags: bool = True) -> RetentionPlan:
        """Return all of these."""
        digests = {one.digest for one in manifests}
        kept = [one for page in self.store.hosted_gc.manifests(APP) for one in page]
        named = [tag for page in self.store.hosted_gc.tags(APP) for tag in page]
        return RetentionPlan(
            repository=APP,
            tags=tuple(tag for tag in named if tags and tag.digest in digests),
            manifests=tuple(one for one in kept if one.digest in digests),
        )

    def apply(self, plan: RetentionPlan) -> tuple[int, int]:
        return self.result(self.store.hosted_gc.apply_plan(plan))

    def test_the_input_of_a_plan(self) -> None:
        """Ages, children and subjects are those of the repository; a tag resets the age."""
        index = manifest(layer(b"x"), IMAGE.descriptor, note="index")
        self.push_manifest(IMAGE, V1)
        self.push_manifest(index, subject=X)
        self.pass_time(10)
        self.push_manifest(manifest(note="other"), V1)
        self.pass_time(5)
        kept = {one.digest: one for page in self.store.hosted_gc.manifests(APP) for one in page}
        self.assertEqual(
            HostedManifest(digest=IMAGE.digest, size=len(IMAGE.body), idle_seconds=5.0), kept[IMAGE.digest]
        )
        self.assertEqual(
            HostedManifest(
                digest=index.digest,
                size=len(index.body),
                idle_seconds=15.0,
                subject=X,
                children=(IMAGE.digest,),
            ),
            kept[index.digest],
        )
        named = [tag for page in self.store.hosted_gc.tags(APP) for tag in page]
        self.assertEqual([HostedTag(V1, manifest(note="other").digest, 5.0)], named)

    def test_a_plan_is_applied(self) -> None:
        """A plan deletes its tags, then their manifests."""
        self.push_manifest(IMAGE, V1, V2)
        self.pass_time(10)
        self.assertEqual((2, 1), self.apply(self.plan(IMAGE)))
        self.assertFalse(self.store.hosted.has(APP))

    def test_manifests_tagged_since_stay(self) -> None:
        """A manifest that was tagged or pushed again after the plan was made stays."""
        for tags in ((V2,), ()):
            self.push_manifest(IMAGE)
            self.pass_time(10)
            planned = self.plan(IMAGE, tags=False)
            self.pass_time(1)
            self.push_manifest(IMAGE, *tags)
            self.assertEqual((0, 0), self.apply(planned))
            self.result(self.store.hosted.delete_tag(APP, V2))

    def test_a_tag_that_moved_since_stays(self) -> None:
        """A tag that was moved after the plan was made stays."""
        self.push_manifest(IMAGE, V1)
        planned = self.plan(IMAGE)
        self.push_manifest(manifest(note="other"), V1)
        self.assertEqual((0, 1), self.apply(planned))
        self.assertEqual(["v1"], self.tags())

    def test_manifests_referenced_since_stay(self) -> None:
        """A manifest that is referenced by an index pushed after the plan stays, with its dependencies."""
        child = manifest(IMAGE.descriptor, note="child")
        self.push_manifest(IMAGE)
        self.push_manifest(child)
        self.pass_time(10)
        planned = self.plan(IMAGE, child)
        self.push_manifest(manifest(child.descriptor, note="index"))
        self.assertEqual((0, 0), self.apply(planned))

    def test_manifests_of_a_push_in_progress_stay(self) -> None:
        """A manifest that a push in progress references stays for the grace time, with its tag."""
        index = manifest(IMAGE.descriptor, note="index")
        self.push_manifest(IMAGE, V1)
        self.pass_time(10)
        planned = self.plan(IMAGE)
        self.threads.failures["_run"] = OSError("full")
        put = self.store.hosted.put_manifest(APP, index, [], children=[IMAGE.digest])
        self.failure(put, OSError)
        self.pass_time(59)
        self.assertEqual((0, 0), self.result(self.store.hosted_gc.apply_plan(planned, 60.0)))
        self.assertEqual(["v1"], self.tags())
        self.pass_time(1)
        self.assertTrue(self.has(IMAGE.digest))
        self.pass_time(59)
        self.assertEqual((0, 0), self.result(self.store.hosted_gc.apply_plan(planned, 60.0)))
        self.store.hosted.link(APP, IMAGE.digest, is_manifest=True)
        self.pass_time(1)
        self.assertEqual((1, 1), self.result(self.store.hosted_gc.apply_plan(planned, 60.0)))

    def test_a_cycle_is_deleted_together(self) -> None:
        """An index whose subject is one of its own children is deleted with it."""
        self.push_manifest(IMAGE)
        self.push_manifest(manifest(IMAGE.descriptor, note="index"), subject=IMAGE.digest)
        self.pass_time(10)
        self.assertEqual((0, 2), self.apply(self.plan(IMAGE, manifest(IMAGE.descriptor, note="index"))))
