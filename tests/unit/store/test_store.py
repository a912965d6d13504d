import os
import time
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime
from twisted.trial.unittest import TestCase

from mirrord.gc.collector import Collector
from mirrord.gc.hosted import HostedSweeper
from mirrord.gc.plan import FreeSpace, GCLimits
from mirrord.gc.ports import EvictableContent
from mirrord.mirrored.ports import BlobFiles, CacheSpace, LinkIndex, ManifestFiles, PartialBlob
from mirrord.observe.metrics import Metrics
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.repository import BlobReader
from mirrord.store.store import Store, open_store
from mirrord.store.threads import DiskThreads
from tests.unit.store.cases import UBUNTU, StoreTestCase, layer, manifest

MIB = 1024 * 1024


def ports_of(store: Store) -> tuple[BlobFiles, ManifestFiles, LinkIndex, EvictableContent]:
    """Return the parts of the store, typed as the ports that they implement."""
    return store.blobs, store.manifests, store.index, store.eviction


class PortTests(StoreTestCase):
    def test_the_store_implements_the_ports(self) -> None:
        """The parts of the store have every member of the ports that they implement."""
        for part, port in zip(
            ports_of(self.store), (BlobFiles, ManifestFiles, LinkIndex, EvictableContent), strict=True
        ):
            self.assertEqual([], [name for name in public(port) if not hasattr(part, name)])
        partial = self.result(self.store.blobs.create_partial(Digest.of(b"x"), is_kept=True))
        self.assertEqual([], [name for name in public(PartialBlob) if not hasattr(partial, name)])
        blob = self.store.blobs.open(self.add_blob(b"y"))
        self.assertEqual([], [name for name in public(BlobReader) if not hasattr(blob, name)])
        assert blob is not None
        blob.close()


def public(port: type) -> list[str]:
    return [name for name in vars(port) if not name.startswith("_")]


class StreamTests(TestCase):
    """Store and collector together, with real threads, on the real disk."""

    timeout = 60

    def setUp(self) -> None:
        self.root = Path(self.mktemp())
        threads = DiskThreads(reactor)
        for pool in threads.pools:
            pool.start()
            self.addCleanup(pool.stop)
        clock = IReactorTime(reactor)
        self.store = open_store(
            self.root,
            clock=clock,
            threads=threads,
            monotonic=time.monotonic,
            wall_clock=time.time,
        )
        self.collector = Collector(
            store=self.store.eviction,
            limits=GCLimits(
                max_size=12 * MIB, min_free=0, unused_for_seconds=86400.0, partials_seconds=86400.0
            ),
            interval_seconds=60.0,
            clock=clock,
            wall_clock=time.time,
            free=lambda: FreeSpace(1 << 40),
            metrics=Metrics(),
            hosted=HostedSweeper(self.store.hosted_gc, clock),
        )
        self.addCleanup(self.store.close)

    async def test_the_disk_stays_within_max_size(self) -> None:
        """Under a stream of pulls the folder never exceeds `max_size` by much, and is not empty."""
        room: CacheSpace = self.collector
        usages = []
        images: list[tuple[Manifest, bytes]] = []
        for number in range(40):
            body = os.urandom(MIB + number)
            image = manifest(layer(body))
            images.append((image, body))
            await self.pull(room, image, body)
            usages.append(disk_usage(self.root))
        self.assertLess(max(usages), 12.6 * MIB)
        self.assertGreater(min(usages[12:]), 6 * MIB)
        self.assertEqual(images[-1][0], await self.store.manifests.read(images[-1][0].digest))
        self.assertIsNotNone(self.store.blobs.size_of(Digest.of(images[-1][1])))
        self.assertFalse(await room.make_room(20 * MIB, Digest.of(b"large")))
        self.assertIsNotNone(self.store.blobs.size_of(Digest.of(images[-1][1])))

    async def pull(self, room: CacheSpace, image: Manifest, body: bytes) -> None:
        self.assertTrue(await room.make_room(len(image.body)))
        await self.store.manifests.store(UBUNTU, image)
        digest = Digest.of(body)
        is_kept = await room.make_room(len(body), digest)
        partial = await self.store.blobs.create_partial(digest, is_kept=is_kept)
        for start in range(0, len(body), 262_144):
            await partial.write(body[start : start + 262_144])
        self.assertTrue(await partial.is_verified())
        await partial.commit()


def disk_usage(root: Path) -> int:
    """Return the disk space of all but hosted repositories and the reserve of the index."""
    files = (path for path in root.rglob("*") if not {"hosted", "reserve"} & {*path.parts})
    return sum(path.lstat().st_blocks * 512 for path in files)
