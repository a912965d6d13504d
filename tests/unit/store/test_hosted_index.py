import errno

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from mirrord.oci.content import ContentKind, Entry, HostedLink
from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestBlobUnknown
from mirrord.oci.manifests import OCTET_STREAM, Descriptor, Manifest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.referrer import Referrer
from mirrord.store.hosted_facts import Tagged
from mirrord.store.hosted_rows import HostedTransaction
from mirrord.store.schema import PAGE_ROWS
from tests.fakes.stores import content_path
from tests.unit.store.cases import APP, UBUNTU, V1, V2, WEB, PushTestCase, layer, manifest

FULL = OSError(errno.ENOSPC, "full")
IMAGE = manifest(layer(b"x"))
OTHER = manifest(layer(b"y"))


class HostedIndexTests(PushTestCase):
    def test_a_push_survives_a_kill(self) -> None:
        """Blobs, manifests and tags that were acknowledged survive kill -9."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.kill()
        self.assertEqual(
            HostedLink(descriptor=Descriptor(OCTET_STREAM, digest, 1), is_manifest=False, linked_at=0.0),
            self.store.hosted.link(APP, digest),
        )
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))

    def test_a_push_that_the_disk_refuses_is_not_seen(self) -> None:
        """A manifest that the disk refuses is not linked, nor is its tag moved."""
        self.push_manifest(IMAGE, V1)
        self.threads.failures["_run"] = FULL
        self.failure(self.store.hosted.put_manifest(APP, OTHER, [V1, V2]), OSError)
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))
        self.assertEqual((False, ["v1"]), (self.has(OTHER.digest), self.tags()))
        self.reopen()
        self.assertEqual((False, ["v1"]), (self.has(OTHER.digest), self.tags()))
        self.push_manifest(OTHER, V1)
        self.assertEqual(OTHER.descriptor, self.store.hosted.tag(APP, V1))

    def test_an_uncommitted_change_is_invisible(self) -> None:
        """A change is invisible until it is on the disk, and visible afterwards."""
        self.push_manifest(IMAGE)
        self.threads.hold()
        putting = Deferred.fromCoroutine(self.store.hosted.put_manifest(APP, IMAGE, [V1]))
        self.assertEqual([], self.tags())
        self.threads.release()
        self.successResultOf(putting)
        self.assertEqual(["v1"], self.tags())

    def test_all_of_a_repository(self) -> None:
        """Links and tags are listed page by page with when they were pushed, which protects nothing."""
        self.pass_time(5.0)
        digests = {self.push_blob(b"%d" % number) for number in range(PAGE_ROWS + 1)}
        self.push_manifest(IMAGE, V1, V2)
        self.push_blob(b"x", WEB)
        self.pass_time(99.0)
        links = [link for page in self.store.hosted.links(APP) for link in page]
        self.assertEqual(digests | {IMAGE.digest}, {link.descriptor.digest for link in links})
        self.assertEqual(len(digests) + 1, len(links))
        tagged = [each for page in self.store.hosted.tagged(APP) for each in page]
        self.assertEqual([(V1, IMAGE.digest, 5.0), (V2, IMAGE.digest, 5.0)], tagged)
        self.assertEqual([APP], list(self.store.hosted.repositories_with(IMAGE.digest, is_manifest=True)))
        self.assertEqual([], list(self.store.hosted.repositories_with(IMAGE.digest)))
        self.assertEqual(digests | {Digest.of(b"x")}, set(self.unlink_unreferenced(60.0)))

    def test_delete_a_repository(self) -> None:
        """A repository is deleted as a whole, and nothing of another one; pushed again, it is new."""
        for repository in (APP, WEB):
            self.push_blob(b"x", repository)
            self.push_manifest(IMAGE, V1, repository=repository)
        self.assertTrue(self.result(self.store.hosted.delete_repository(APP)))
        self.assertFalse(self.result(self.store.hosted.delete_repository(APP)))
        self.assertEqual(([], [WEB]), (self.tags(), self.store.hosted.repositories("", 10)))
        self.assertEqual(["v1"], self.tags(WEB))
        self.push_blob(b"x")
        self.pass_time(60.0)
        self.assertEqual([Digest.of(b"x")], list(self.unlink_unreferenced(60.0)))

    def test_two_pushes_of_one_tag(self) -> None:
        """Of two concurrent pushes of a tag the last one wins, with all of its manifest."""
        self.threads.hold()
        puts = [
            Deferred.fromCoroutine(self.store.hosted.put_manifest(APP, each, [V1])) for each in (IMAGE, OTHER)
        ]
        for _ in range(4):
            self.threads.release()
        for each in puts:
            self.successResultOf(each)
        self.assertEqual(OTHER.descriptor, self.store.hosted.tag(APP, V1))
        self.assertTrue(self.has(IMAGE.digest))

    def test_a_failed_change_is_undone_alone(self) -> None:
        """A change that fails is undone as a whole, and alone; the rest of its batch is kept."""

        def fail(transaction: HostedTransaction) -> None:
            transaction.change(Tagged(str(APP), str(V2), str(OTHER.digest), 0.0, 0.0))
            raise ValueError("no")

        self.threads.hold()
        failing = Deferred.fromCoroutine(self.store.database.transact(fail))
        putting = Deferred.fromCoroutine(self.store.hosted.put_manifest(APP, IMAGE, [V1]))
        for _ in range(3):
            self.threads.release()
        self.failureResultOf(failing, ValueError)
        self.successResultOf(putting)
        self.assertEqual((["v1"], False), (self.tags(), self.has(OTHER.digest)))

    def test_a_manifest_with_missing_parts_is_not_linked(self) -> None:
        """A push fails as a whole if a part of it is deleted after it began, and others are unaffected."""
        index = manifest(IMAGE.descriptor, note="index")
        for repository in (APP, WEB):
            self.push_blob(b"x", repository)
            self.push_manifest(IMAGE, repository=repository)
        for blobs, children, gone in (
            ([Digest.of(b"x")], [], b"x"),
            ([], [IMAGE.digest], IMAGE.body),
        ):
            put = self.store.hosted.put_manifest
            self.threads.hold()
            deleting = Deferred.fromCoroutine(self.store.hosted.delete(APP, Digest.of(gone)))
            putting = [
                Deferred.fromCoroutine(put(repository, index, [V1], blobs=blobs, children=children))
                for repository in (APP, WEB)
            ]
            self.threads.release()
            self.assertTrue(self.successResultOf(deleting))
            error = self.failureResultOf(putting[0], ManifestBlobUnknown).value
            self.assertEqual(str(Digest.of(gone)), error.detail)
            self.assertEqual((False, []), (self.has(index.digest), self.tags()))
            self.successResultOf(putting[1])
            self.assertEqual(["v1"], self.tags(WEB))

    def test_a_child_may_be_a_blob_but_no_blob_a_manifest(self) -> None:
        """An index may reference layers; the layers of an image have to be there as blobs."""
        self.push_blob(b"x")
        self.push_manifest(OTHER)
        index = manifest(note="index")
        put = self.store.hosted.put_manifest
        self.failure(put(APP, index, [V1], blobs=[OTHER.digest]), ManifestBlobUnknown)
        self.result(put(APP, index, [V1], blobs=[Digest.of(b"x")], children=[Digest.of(b"x"), OTHER.digest]))
        self.assertEqual(["v1"], self.tags())

    def test_hosted_content_is_not_evicted(self) -> None:
        """Hosted content is never evicted for space, even if mirrored repositories share it."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.add_manifest(UBUNTU, IMAGE)
        mirrored = self.add_blob(b"m")
        self.pass_time(1000)
        self.assertEqual(4096, self.store.eviction.total_bytes)
        self.evict_all()
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))
        self.assertIsNone(self.read_blob(mirrored))
        self.assertEqual((0, 2 * 4096), (self.store.eviction.total_bytes, self.store.hosted_gc.total_bytes))

    def test_the_link_protects_whatever_the_row(self) -> None:
        """Content whose row was lost and adopted, or is not marked, is protected by its link."""
        digest = self.push_blob(b"x")
        self.store.contents.mark(ContentKind.BLOB, digest, is_hosted=False)
        self.result(
            self.store.eviction.evict(
                [Entry(kind=ContentKind.BLOB, name=str(digest), size=4096, idle_seconds=0.0)]
            )
        )
        self.assertEqual(b"x", self.read_blob(digest))
        self.store.contents.drop(ContentKind.BLOB, digest)
        self.assertEqual(1, self.store.blobs.size_of(digest))
        self.evict_all()
        self.assertEqual(b"x", self.read_blob(digest))

    def test_a_manifest_of_any_shape_is_found_again(self) -> None:
        """A manifest that only its link can describe is read after its row was lost."""
        body = b'{"schemaVersion": 2, "whatever": []}'
        odd = Manifest(Digest.of(body), "application/vnd.example+json", body)
        self.push_manifest(odd, V1)
        self.store.manifests._contents.drop(ContentKind.MANIFEST, odd.digest)
        adopted = self.store.manifests._contents.add(ContentKind.MANIFEST, odd.digest, len(body))
        self.assertEqual((odd.media_type, True), (adopted.media_type, adopted.is_hosted))
        self.store.manifests._contents.drop(ContentKind.MANIFEST, odd.digest)
        self.store.contents.bodies.drop(ContentKind.MANIFEST, odd.digest)
        self.assertEqual(odd, self.result(self.store.manifests.read(odd.digest)))

    def test_reading_hosted_content_takes_no_room(self) -> None:
        """A hosted blob that is being read does not count as busy mirrored bytes."""
        digest = self.push_blob(b"x")
        blob = self.store.blobs.open(digest)
        assert blob is not None
        self.addCleanup(blob.close)
        self.assertEqual(0, self.store.eviction.busy_bytes)

    def test_mounting_costs_no_bytes(self) -> None:
        """A stored blob can be linked to another repository; a missing one cannot."""
        digest = self.push_blob(b"x")
        self.assertTrue(self.result(self.store.hosted.add_blob(WEB, Descriptor(OCTET_STREAM, digest, 1))))
        self.assertEqual([APP, WEB], list(self.store.hosted.repositories_with(digest)))
        missing = Descriptor(OCTET_STREAM, Digest.of(b"no"), 2)
        self.assertFalse(self.result(self.store.hosted.add_blob(WEB, missing)))
        self.assertEqual(4096, self.store.hosted_gc.total_bytes)

    def test_a_mirrored_blob_is_mounted_for_good(self) -> None:
        """Mirrored content is hosted from the moment of the mount, and no longer evicted."""
        digest = self.add_blob(b"m")
        self.assertTrue(self.result(self.store.hosted.add_blob(APP, Descriptor(OCTET_STREAM, digest, 1))))
        self.evict_all()
        self.assertEqual(b"m", self.read_blob(digest))

    def test_deleting(self) -> None:
        """Deleting a manifest deletes its tags; a second deletion returns False."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1, V2)
        self.assertTrue(self.result(self.store.hosted.delete_tag(APP, V2)))
        self.assertFalse(self.result(self.store.hosted.delete_tag(APP, V2)))
        self.assertEqual(["v1"], self.tags())
        self.assertTrue(self.result(self.store.hosted.delete(APP, IMAGE.digest)))
        self.assertFalse(self.result(self.store.hosted.delete(APP, IMAGE.digest)))
        self.assertEqual(([], False), (self.tags(), self.has(IMAGE.digest)))
        self.assertTrue(self.result(self.store.hosted.delete(APP, Digest.of(b"x"))))
        self.assertFalse(self.store.hosted.has(APP))

    def test_the_same_bytes_as_blob_and_as_manifest(self) -> None:
        """Bytes that were pushed as a blob and as a manifest are both, and are deleted separately."""
        digest = self.push_blob(IMAGE.body)
        self.push_manifest(IMAGE, V1)
        hosted = self.store.hosted
        links = [hosted.link(APP, digest, is_manifest=each) for each in (True, False)]
        self.assertEqual([True, False], [link.is_manifest for link in links if link])
        self.assertTrue(self.result(hosted.delete(APP, digest, is_manifest=False)))
        self.assertIsNone(hosted.link(APP, digest, is_manifest=False))
        self.assertEqual(IMAGE.descriptor, hosted.tag(APP, V1))

    def test_referrers(self) -> None:
        """Referrers are listed with their artifact type and annotations, until they are deleted."""
        subject = Digest.of(b"subject")
        annotations = {"a": "\ud800", "b": "ü"}
        links = {}
        kind = "application/\ud800x"
        for number in range(20):
            image = manifest(note=str(number))
            referrer = Referrer(subject, kind if number % 2 else None, annotations)
            self.result(self.store.hosted.put_manifest(APP, image, [], referrer=referrer))
            links[image.digest] = HostedLink(
                descriptor=image.descriptor, is_manifest=True, linked_at=0.0, referrer=referrer
            )
        expected = [links[digest] for digest in sorted(links)]
        self.assertEqual(expected, list(self.store.hosted.referrers(APP, subject)))
        self.assertEqual([], list(self.store.hosted.referrers(WEB, subject)))
        last = str(expected[4].descriptor.digest)
        rest = [link for link in expected[5:] if link.referrer.artifact_type == kind]
        self.assertEqual(rest, list(self.store.hosted.referrers(APP, subject, kind, last)))
        self.result(self.store.hosted.delete(APP, expected[0].descriptor.digest))
        self.assertEqual(expected[1:], list(self.store.hosted.referrers(APP, subject)))

    def test_paging(self) -> None:
        """Repositories and tags are listed in order, up to the limit, after the last one."""
        for name in ("b/x", "a", "b", "c"):
            self.push_manifest(IMAGE, repository=RepositoryName(name))
        self.push_manifest(IMAGE, *map(Tag, ("b", "B", "a", "_", "10", "9")))
        names = [str(repository) for repository in self.store.hosted.repositories("a", 3)]
        self.assertEqual(["b", "b/x", "c"], names)
        self.assertEqual(["10", "9", "B"], self.store.hosted.tags(APP, "", 3))
        self.assertEqual(["_", "a", "b"], self.store.hosted.tags(APP, "B", 9))

    def test_lost_content(self) -> None:
        """Content whose file is gone is logged once a start, is not served, and is repaired by a push."""
        digest = self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        content_path(self.layout, ContentKind.BLOB, digest).unlink()
        content_path(self.layout, ContentKind.MANIFEST, IMAGE.digest).unlink()
        with capturedLogs() as events:
            self.store = self.open()
            self.reconcile()
        logged = sorted(formatEvent(event) for event in events if "lost" in event.get("log_format", ""))
        self.assertEqual(
            [
                f"hosted repository team/app has lost a blob; push it again: {digest}",
                f"hosted repository team/app has lost a manifest; push it again: {IMAGE.digest}",
            ],
            logged,
        )
        self.assertEqual((None, None), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.assertEqual([], [each for page in self.store.hosted.lost() for each in page])
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(digest), self.read_manifest(IMAGE.digest)))
