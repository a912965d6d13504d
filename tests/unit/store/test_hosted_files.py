"""Hosted content has its own folder, whichever way it came there."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import GCLimits
from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCTET_STREAM, Descriptor
from mirrord.store.copying import link_content, rename_content
from mirrord.store.layout import Layout
from mirrord.store.quarantine import KEPT_SECONDS
from mirrord.store.reconciliation import LOST_REPORTED
from tests.unit.store.cases import APP, UBUNTU, V1, WEB, PushTestCase, layer, manifest

IMAGE = manifest(layer(b"x"))
X = Digest.of(b"x")
BLOB = Descriptor(OCTET_STREAM, X, 1)
LIMITS = GCLimits(max_size=None, min_free=0, unused_for_seconds=1000.0, partials_seconds=1000.0)


class FolderTestCase(PushTestCase):
    def files(self, *, is_hosted: bool) -> set[str]:
        folder = self.layout.hosted if is_hosted else self.layout.mirrored
        return {file.name for each in folder.fan_outs() for file in each.path.glob("*")}


class FolderTests(FolderTestCase):
    def test_pushed_content_is_in_the_hosted_folder(self) -> None:
        """Pushed blobs and manifests are in the hosted folder, pulled ones in that of the cache."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        mirrored = self.add_blob(b"m")
        self.assertEqual({X.encoded, IMAGE.digest.encoded}, self.files(is_hosted=True))
        self.assertEqual({mirrored.encoded}, self.files(is_hosted=False))

    def test_pushing_what_is_cached(self) -> None:
        """A push of content that is cached leaves one copy of it, which mirrored repositories read too."""
        self.add_blob(b"x")
        self.add_manifest(UBUNTU, IMAGE)
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.assertEqual(set(), self.files(is_hosted=False))
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(X), self.read_manifest(IMAGE.digest)))
        self.assertEqual(0, self.store.eviction.total_bytes)

    def test_mounting_what_is_cached(self) -> None:
        """A mount of a cached blob leaves one copy, in the hosted folder, which eviction does not touch."""
        self.add_blob(b"x")
        self.assertTrue(self.result(self.store.hosted.add_blob(APP, BLOB)))
        self.assertEqual(({X.encoded}, set()), (self.files(is_hosted=True), self.files(is_hosted=False)))
        self.evict_all()
        self.assertEqual(b"x", self.read_blob(X))

    def test_a_mount_replaces_a_truncated_file(self) -> None:
        """A mount of a cached blob replaces a hosted file that is too short by the cached one."""
        self.add_blob(b"x")
        hosted = self.layout.content(ContentKind.BLOB, X, is_hosted=True)
        hosted.parent.mkdir(parents=True, exist_ok=True)
        hosted.write_bytes(b"")
        self.assertTrue(self.result(self.store.hosted.add_blob(APP, BLOB)))
        self.assertEqual(b"x", hosted.read_bytes())
        self.assertEqual(b"x", self.read_blob(X))

    def test_a_mount_that_finds_no_file(self) -> None:
        """A blob whose file is gone cannot be mounted, although a repository has it."""
        self.push_blob(b"x")
        self.layout.content(ContentKind.BLOB, X, is_hosted=True).unlink()
        self.assertFalse(self.result(self.store.hosted.add_blob(WEB, BLOB)))
        self.assertFalse(self.has(X, WEB))

    def test_an_upgrade_moves_content(self) -> None:
        """Content that an earlier version stored in the cache is served at once, and moved to its folder."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        for kind, digest in ((ContentKind.BLOB, X), (ContentKind.MANIFEST, IMAGE.digest)):
            target, source = self.layout.candidates(kind, digest, is_hosted=False)
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        self.store = self.open()
        self.evict_all()
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(X), self.read_manifest(IMAGE.digest)))
        self.reconcile()
        self.assertEqual({X.encoded, IMAGE.digest.encoded}, self.files(is_hosted=True))
        self.assertEqual(set(), self.files(is_hosted=False))
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(X), self.read_manifest(IMAGE.digest)))

    def test_an_upgrade_to_another_file_system(self) -> None:
        """Content of earlier versions is copied to a hosted folder that is on another file system."""
        self.push_blob(b"x")
        self.push_manifest(IMAGE, V1)
        self.result(self.store.close())
        for folder in ("blobs", "manifests"):
            (self.layout.hosted_root / folder).rename(self.layout.root / folder)
        elsewhere_root = elsewhere(self)
        for path in self.layout.hosted_root.glob("hosted.*"):
            (elsewhere_root / path.name).write_bytes(path.read_bytes())
        self.layout = Layout(self.root, elsewhere_root)
        self.store = self.open()
        self.assertEqual(b"x", self.read_blob(X))
        self.reconcile()
        self.assertEqual({X.encoded, IMAGE.digest.encoded}, self.files(is_hosted=True))
        self.assertEqual(set(), self.files(is_hosted=False))
        self.assertEqual((b"x", IMAGE.body), (self.read_blob(X), self.read_manifest(IMAGE.digest)))

    def test_a_cached_copy_that_was_left(self) -> None:
        """A cached file of hosted content that an earlier run left is deleted."""
        self.push_blob(b"x")
        cached, hosted = self.layout.candidates(ContentKind.BLOB, X, is_hosted=False)
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(hosted.read_bytes())
        self.reopen()
        self.reconcile()
        self.assertEqual(set(), self.files(is_hosted=False))
        self.assertEqual(b"x", self.read_blob(X))

    def test_a_cached_file_that_is_still_being_deleted(self) -> None:
        """Content does not return to the cache while the file that the cache had is being deleted."""
        self.push_blob(b"x")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.result(self.store.hosted.delete(APP, X))
        entries = [each for page in self.store.hosted_gc.unlinked() for each in page]
        self.threads.hold("unlink_all")
        dropping = Deferred.fromCoroutine(self.store.hosted._files.drop_cached(ContentKind.BLOB, X))
        self.result(self.store.hosted_gc.return_to_cache(entries))
        self.threads.release()
        self.successResultOf(dropping)
        self.assertEqual(b"x", self.read_blob(X))
        self.result(self.store.hosted_gc.return_to_cache(entries))
        self.assertEqual((set(), {X.encoded}), (self.files(is_hosted=True), self.files(is_hosted=False)))

    def test_deleted_content_that_is_mirrored_too_returns_to_the_cache(self) -> None:
        """Content that only a mirrored repository has any more is in the folder of the cache."""
        self.push_blob(b"x")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.result(self.store.hosted.delete(APP, X))
        entries = [each for page in self.store.hosted_gc.unlinked() for each in page]
        self.result(self.store.hosted_gc.return_to_cache(entries))
        self.assertEqual((set(), {X.encoded}), (self.files(is_hosted=True), self.files(is_hosted=False)))
        self.assertEqual(b"x", self.read_blob(X))


class TwoFileSystemsTests(PushTestCase):
    """The hosted folder is on another file system than the store, and either may be full."""

    def setUp(self) -> None:
        self.full: set[Path] = set()
        super().setUp()
        self.result(self.store.close())
        self.layout = Layout(self.root, elsewhere(self))
        self.store = self.open()

    def has_room(self, folder: Path, size: int) -> bool:
        return folder not in self.full

    def returned(self) -> list[Entry]:
        entries = [each for page in self.store.hosted_gc.unlinked() for each in page]
        return self.result(self.store.hosted_gc.return_to_cache(entries))

    def test_a_mount_needs_room_in_the_hosted_folder(self) -> None:
        """A mount copies a cached blob, if the hosted folder has room for it."""
        self.add_blob(b"x")
        self.full = {self.layout.hosted_root}
        self.failure(self.store.hosted.add_blob(APP, BLOB), OSError)
        self.assertFalse(self.has(X))
        self.full = {self.root}
        self.assertTrue(self.result(self.store.hosted.add_blob(APP, BLOB)))
        self.assertEqual(b"x", self.layout.content(ContentKind.BLOB, X, is_hosted=True).read_bytes())

    def test_a_return_needs_room_in_the_cache(self) -> None:
        """Content returns to the cache if that has room; else it is reported, and still served."""
        self.push_blob(b"x")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.result(self.store.hosted.delete(APP, X))
        self.full = {self.root}
        self.assertEqual([str(X)], [entry.name for entry in self.returned()])
        self.assertEqual(b"x", self.read_blob(X))
        self.full = {self.layout.hosted_root}
        self.assertEqual([], self.returned())
        self.assertEqual(b"x", self.layout.content(ContentKind.BLOB, X, is_hosted=False).read_bytes())

    def test_a_sweep_without_room_in_the_cache(self) -> None:
        """What only a mirrored repository has any more is deleted if the cache has no room for it."""
        self.push_blob(b"x")
        self.store.index.add_links(UBUNTU, [layer(b"x")])
        self.result(self.store.hosted.delete(APP, X))
        self.full = {self.root}
        sweeping = Deferred.fromCoroutine(HostedSweeper(self.store.hosted_gc, self.clock).sweep(LIMITS))
        self.clock.pump([0.0] * 500)
        self.assertEqual(1, self.successResultOf(sweeping).removed.count)
        self.assertIsNone(self.read_blob(X))
        self.assertEqual(0, self.store.hosted_gc.total_bytes)


class QuarantineTests(FolderTestCase):
    def unrecorded(self, content: bytes = b"unrecorded") -> Digest:
        """Put content into the hosted folder that no repository has, as a push that was killed does."""
        digest = Digest.of(content)
        path = self.layout.content(ContentKind.BLOB, digest, is_hosted=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest

    def quarantined(self) -> list[str]:
        return sorted(path.name for path in self.layout.quarantine.iterdir())

    def test_unrecorded_content_is_neither_evicted_nor_served(self) -> None:
        """Content that no record accounts for goes to quarantine, and is not counted as cached."""
        digest = self.unrecorded()
        self.reopen()
        self.reconcile()
        self.assertEqual([f"blob-sha256-{digest.encoded}"], self.quarantined())
        self.assertIsNone(self.read_blob(digest))
        self.assertEqual(0, self.store.eviction.total_bytes)
        self.evict_all()
        self.assertEqual((1, 4096), (self.store.quarantine.total_entries, self.store.quarantine.total_bytes))

    def test_it_is_kept_for_a_month(self) -> None:
        """Content leaves quarantine after 30 days of service, across restarts."""
        self.unrecorded()
        self.reopen()
        self.reconcile()
        self.pass_time(KEPT_SECONDS - 10)
        self.assertEqual(0, self.result(self.store.hosted_gc.remove_quarantined()))
        self.reopen()
        self.pass_time(20)
        self.assertEqual(1, self.result(self.store.hosted_gc.remove_quarantined()))
        self.assertEqual([], self.quarantined())
        self.assertEqual((0, 0), (self.store.quarantine.total_entries, self.store.quarantine.total_bytes))

    def test_a_push_is_not_disturbed(self) -> None:
        """A file whose push is about to link it is not moved away."""
        digest = self.unrecorded(b"x")
        contents = self.store.contents

        async def push() -> None:
            async with contents.claimed(ContentKind.BLOB, digest):
                await self.store.quarantine.put_unrecorded(ContentKind.BLOB, digest)

        self.result(push())
        self.assertEqual([], self.quarantined())

    def test_linked_content_is_taken_out_again(self) -> None:
        """Content that a repository has, and that is in quarantine only, is served again after a start."""
        self.push_blob(b"x")
        self.result(self.store.close())
        path = self.layout.content(ContentKind.BLOB, X, is_hosted=True)
        path.rename(self.layout.quarantine / f"blob-sha256-{X.encoded}")
        self.store = self.open()
        self.reconcile()
        self.assertEqual(b"x", self.read_blob(X))
        self.assertEqual([], self.quarantined())
        self.assertEqual((0, 0), (self.store.quarantine.total_entries, self.store.quarantine.total_bytes))

    def test_many_lost_files(self) -> None:
        """What is linked and not on the disk is reported, up to a number of lines, and counted."""
        count = LOST_REPORTED + 5
        for number in range(count):
            self.push_blob(b"%d" % number)
        self.reopen()
        for name in self.files(is_hosted=True):
            digest = Digest.parse(f"sha256:{name}")
            self.layout.content(ContentKind.BLOB, digest, is_hosted=True).unlink()
        with capturedLogs() as events:
            self.reconcile()
        lines = [line for event in events if "lost" in (line := formatEvent(event) or "")]
        self.assertEqual(LOST_REPORTED + 1, len(lines))
        self.assertIn(str(count), lines[-1])

    def test_damaged_content_that_was_left_in_the_cache(self) -> None:
        """A damaged hosted file that is still in the folder of the cache is not served again."""
        body = b"x" * 100_000
        digest = self.push_blob(body)
        target, source = self.layout.candidates(ContentKind.BLOB, digest, is_hosted=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        target.write_bytes(b"y" * 100_000)
        entry = Entry(kind=ContentKind.BLOB, name=str(digest), size=0, idle_seconds=0.0)
        examination = self.store.audit.examine(entry)
        assert examination is not None
        with closing(examination):
            self.assertTrue(examination.set_aside())
        self.assertIsNone(self.read_blob(digest))

    def test_damaged_content(self) -> None:
        """A damaged hosted file goes to quarantine; pushed again, it is served."""
        self.push_blob(b"x")
        self.layout.content(ContentKind.BLOB, X, is_hosted=True).write_bytes(b"y")
        self.store.contents.bodies.drop(ContentKind.BLOB, X)
        self.assertIsNone(self.read_blob(X))
        self.assertEqual([f"blob-sha256-{X.encoded}"], self.quarantined())
        self.push_blob(b"x")
        self.assertEqual(b"x", self.read_blob(X))


class RenamingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.source, self.target = self.folder / "source", self.folder / "a/b/t"
        self.source.write_bytes(b"x")

    def test_renaming(self) -> None:
        """A renamed file is at its new place only."""
        self.assertTrue(rename_content(self.source, self.target))
        self.assertEqual((b"x", False), (self.target.read_bytes(), self.source.exists()))

    def test_a_file_that_has_both_names(self) -> None:
        """A file that is linked at its new place already is there only."""
        self.target.parent.mkdir(parents=True)
        self.target.hardlink_to(self.source)
        self.assertTrue(rename_content(self.source, self.target))
        self.assertEqual((b"x", False), (self.target.read_bytes(), self.source.exists()))

    def test_linking(self) -> None:
        """A linked file has two names, however often it is linked, and nothing is left in scratch."""
        scratch = self.folder / "scratch"
        for _ in range(2):
            self.assertTrue(link_content(self.source, self.target, scratch))
        self.assertEqual((2, False), (self.source.stat().st_nlink, scratch.exists()))

    def test_what_is_missing(self) -> None:
        """What does not exist is neither renamed nor linked."""
        self.source.unlink()
        self.assertFalse(rename_content(self.source, self.target))
        self.assertFalse(link_content(self.source, self.target, self.folder / "scratch"))

    def test_another_file_system(self) -> None:
        """A file is neither renamed nor linked to another file system."""
        other = elsewhere(self)
        self.assertIsNone(rename_content(self.source, other / "t"))
        self.assertFalse(link_content(self.source, other / "t", other / "scratch"))
        self.assertEqual([], list(other.iterdir()))


def elsewhere(case: SynchronousTestCase) -> Path:
    """Return a folder on another file system than that of the tests."""
    folder = TemporaryDirectory(dir="/dev/shm")
    case.addCleanup(folder.cleanup)
    return Path(folder.name)
