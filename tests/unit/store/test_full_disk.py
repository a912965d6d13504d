"""The store on a disk that is full for real: a small tmpfs, mounted for each test."""

import errno
import os
import subprocess
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from mirrord.mirrored.ports import PartialBlob
from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.oci.names import Tag
from mirrord.store.layout import Layout
from mirrord.store.spare_files import SPARE_FILES
from mirrord.store.store import Store
from tests.unit.store.cases import APP, UBUNTU, V1, PushTestCase, layer, manifest

MIB = 1024 * 1024


class FullDiskTestCase(PushTestCase):
    """A store on a disk of 8 MiB."""

    options = "size=8m"

    def setUp(self) -> None:
        mountpoint = Path(self.mktemp()).absolute()
        mountpoint.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(mountpoint)]
        try:
            mounted = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            self.skipTest("there is no mount command")
        if mounted.returncode:
            self.skipTest(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "--lazy", str(mountpoint)], check=True)
        self.disk = mountpoint
        super().setUp()

    def mktemp(self) -> str:
        return str(self.disk / "store") if hasattr(self, "disk") else super().mktemp()

    def fill(self) -> Path:
        filler = self.disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    pass
            except OSError as error:
                self.assertEqual(errno.ENOSPC, error.errno)
        return filler


class FullDiskTests(FullDiskTestCase):
    def test_a_write_goes_on_after_room_was_made(self) -> None:
        """ENOSPC in the midst of a chunk leaves no byte of it; when there is room the same write succeeds."""
        old = self.add_blob(b"o" * 4 * MIB)
        body = os.urandom(6 * MIB)
        partial = self.result(self.store.blobs.create_partial(Digest.of(body), is_kept=True))
        self.result(partial.write(body[:MIB]))
        error = self.failure(partial.write(body[MIB:]), OSError)
        assert isinstance(error, OSError)
        self.assertEqual(errno.ENOSPC, error.errno)
        path = self.layout.partial(Digest.of(body))
        self.assertEqual((MIB, MIB), (partial.offset, path.stat().st_size))
        self.result(
            self.store.eviction.evict(
                [Entry(kind=ContentKind.BLOB, name=str(old), size=4 * MIB, idle_seconds=0.0)]
            )
        )
        self.result(partial.write(body[MIB:]))
        self.assertTrue(self.result(partial.is_verified()))
        self.result(partial.commit())
        self.assertEqual(body, self.read_blob(Digest.of(body)))

    def test_an_unkept_one_gives_its_room_back(self) -> None:
        """A file without a name is gone from the disk with its last descriptor."""
        body = os.urandom(6 * MIB)
        for _ in range(3):
            partial = self.result(self.store.blobs.create_partial(Digest.of(body), is_kept=False))
            self.result(partial.write(body))
            self.result(partial.commit())

    def test_a_manifest_that_does_not_fit_leaves_nothing(self) -> None:
        """A manifest that the full disk refuses is neither stored nor half written."""
        self.fill()
        image = manifest(note="n" * 100_000)
        self.failure(self.store.manifests.store(UBUNTU, image), OSError)
        self.assertIsNone(self.result(self.store.manifests.read(image.digest)))
        self.assertEqual([], list(self.layout.mirrored.scratch.iterdir()))
        self.assertEqual([], [path for path in self.root.glob("manifests/**/*") if path.is_file()])

    def test_the_index_catches_up(self) -> None:
        """Links added while the disk was full are written some time after there is room again."""
        filler = self.fill()
        links = [layer(b"%d" % number) for number in range(1000)]
        self.store.index.add_links(UBUNTU, links)
        self.clock.pump([1.0] * 30)
        self.assertEqual(links[-1], self.store.index.link(UBUNTU, links[-1].digest))
        filler.unlink()
        self.clock.pump([1.0] * 61)
        self.kill()
        for link in links:
            self.assertEqual(link, self.store.index.link(UBUNTU, link.digest))

    def test_eviction_works_on_a_full_disk(self) -> None:
        """Eviction frees space although nothing else can be written."""
        digest = self.add_blob(b"x" * MIB)
        self.result(self.store.eviction.flush())
        self.fill()
        free = os.statvfs(self.disk).f_bavail
        (entry,) = self.store.eviction.entries()
        self.result(self.store.eviction.evict([entry]))
        self.assertGreaterEqual(os.statvfs(self.disk).f_bavail - free, MIB // 4096)
        self.assertIsNone(self.store.blobs.open(digest))


class FullDiskStartTests(FullDiskTestCase):
    """A store on a disk of 40 MiB, with its hosted repositories elsewhere."""

    options = "size=40m"

    def setUp(self) -> None:
        self.elsewhere = Path(self.mktemp()).absolute()
        super().setUp()

    def open(self) -> Store:
        self.layout = Layout(self.root, self.elsewhere)
        return super().open()

    def test_start(self) -> None:
        """A store that is closed can be opened again on a full disk, and makes room for itself."""
        cached = self.add_blob(b"c" * MIB)
        pushed = self.push_blob(b"pushed")
        self.result(self.store.close())
        self.fill()
        self.store = self.open()
        self.assertEqual(b"pushed", self.read_blob(pushed))
        self.reconcile()
        self.evict_all()
        self.assertIsNone(self.read_blob(cached))
        self.assertEqual(b"new", self.read_blob(self.add_blob(b"new")))

    def test_start_without_reserve(self) -> None:
        """Without the reserve the error names the folder; a later start with more room reserves it again."""
        self.result(self.store.close())
        self.layout.reserve.unlink()
        filler = self.fill()
        error = self.assertRaises(OSError, self.open)
        self.assertEqual(errno.ENOSPC, error.errno)
        self.assertIn(str(self.root), str(error))
        filler.unlink()
        self.store = self.open()
        self.assertTrue(self.layout.reserve.exists())


class NoInodesTests(FullDiskTestCase):
    """A store on a disk on which few files can be created."""

    options = "size=8m,nr_inodes=2000"

    def take_all_inodes(self) -> None:
        """Create files until the disk refuses one."""
        folder = self.disk / "others"
        folder.mkdir(exist_ok=True)
        for number in count(len(list(folder.iterdir()))):
            try:
                (folder / str(number)).touch()
            except OSError as error:
                self.assertEqual(errno.ENOSPC, error.errno)
                return

    def create(self, number: int, *, is_kept: bool) -> PartialBlob:
        digest = Digest.of(b"%d" % number)
        return self.result(self.store.blobs.create_partial(digest, is_kept=is_kept))

    def spare_files(self) -> int:
        return len(list(self.layout.spare.iterdir()))

    def test_streams_without_inodes(self) -> None:
        """Without inodes there are still streams that are not kept, as many as downloads, again and again."""
        self.take_all_inodes()
        self.failure(self.store.blobs.create_partial(Digest.of(b"x"), is_kept=True), OSError)
        for _ in range(2):
            streams = [self.create(number, is_kept=False) for number in range(SPARE_FILES)]
            one_more = self.store.blobs.create_partial(Digest.of(b"more"), is_kept=False)
            error = self.failure(one_more, OSError)
            assert isinstance(error, OSError)
            self.assertEqual((errno.ENOSPC, 0), (error.errno, self.spare_files()))
            reader = streams[0].open_reader()
            for number, stream in enumerate(streams):
                self.result(stream.write(b"%d" % number))
                self.result(stream.discard())
            self.assertEqual(b"0", os.pread(reader, 2, 0))
            self.assertEqual(SPARE_FILES - 1, self.spare_files())
            streams[0].close_reader(reader)
            self.assertEqual(SPARE_FILES, self.spare_files())
            self.take_all_inodes()

    def test_a_start_without_inodes(self) -> None:
        """A restart opens its index, and has spare files again."""
        self.take_all_inodes()
        self.result(self.store.close())
        self.take_all_inodes()
        self.store = self.open()
        self.assertGreaterEqual(self.spare_files(), SPARE_FILES - 4)
        self.create(1, is_kept=False)


class FullDiskPushTests(FullDiskTestCase):
    def leave(self, blocks: int) -> Path:
        """Fill the disk but for so many blocks."""
        filler = self.fill()
        os.truncate(filler, filler.stat().st_size - blocks * 4096)
        return filler

    def test_a_push_that_runs_out_of_room_anywhere(self) -> None:
        """With any number of free blocks a push is whole or absent, and continues when there is room."""
        outcomes = set()
        for blocks in range(0, 40, 2):
            body, image = os.urandom(40_000), manifest(note=f"{blocks:0>9000}")
            digest = Digest.of(body)
            upload = self.result(self.store.uploads.begin(APP, "ann"))
            filler = self.leave(blocks)
            is_pushed = self.is_done(upload.write(body)) and self.is_done(upload.commit(digest))
            self.assertEqual((is_pushed, is_pushed), (self.has(digest), self.read_blob(digest) == body))
            is_kept = self.is_done(self.store.hosted.put_manifest(APP, image, [Tag(f"v{blocks}")]))
            self.assertEqual((is_kept, is_kept), (self.has(image.digest), f"v{blocks}" in self.tags()))
            filler.unlink()
            self.clock.pump([1.0] * 61)
            if not is_pushed:
                self.result(upload.write(body[upload.offset :]))
                self.result(upload.commit(digest))
            self.assertEqual(body, self.read_blob(digest))
            outcomes.add((is_pushed, is_kept))
        self.assertGreaterEqual(outcomes, {(False, False), (True, True)})

    def is_done(self, coroutine: Coroutine[Any, Any, None]) -> bool:
        """Return whether it succeeded; a failure must be OSError."""
        ended = Deferred.fromCoroutine(coroutine)
        if isinstance(ended.result, Failure):
            self.failureResultOf(ended, OSError)
            return False
        self.successResultOf(ended)
        return True

    def test_mirrored_content_makes_room_and_hosted_does_not(self) -> None:
        """On a full disk mirrored content is evicted, and pushed content stays."""
        pushed = self.push_blob(os.urandom(MIB))
        image = manifest(note="hosted")
        self.push_manifest(image, V1)
        mirrored = self.add_blob(os.urandom(MIB))
        self.result(self.store.eviction.flush())
        self.fill()
        self.result(self.store.eviction.evict(list(self.store.eviction.entries())))
        self.assertIsNone(self.read_blob(mirrored))
        self.assertEqual(
            (True, image.body), (self.read_blob(pushed) is not None, self.read_manifest(image.digest))
        )
