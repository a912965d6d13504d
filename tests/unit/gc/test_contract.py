"""The fake store of the collector's tests keeps the same contract as the real one."""

import os

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.digest import Digest
from mirrord.store.layout import footprint
from tests.unit.gc import contract
from tests.unit.gc.cases import FakeStore
from tests.unit.store.cases import StoreTestCase


class FakeStoreTests(contract.EvictableContentTests):
    def setUp(self) -> None:
        self.content = self.fake = FakeStore()

    def add(self) -> str:
        name = str(Digest.of(b"%d" % len(self.fake.cached)))
        self.fake.cached.append(Entry(kind=ContentKind.BLOB, name=name, size=footprint(1), idle_seconds=1.0))
        return name

    def add_partial(self) -> str:
        self.fake.cached.append(Entry(kind=ContentKind.PARTIAL, name="p", size=4096, idle_seconds=1.0))
        return "p"

    def use(self, name: str) -> None:
        self.fake.used.add(name)

    def pin(self, name: str) -> None:
        self.fake.busy.add(name)


class RealStoreTests(contract.EvictableContentTests, StoreTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.content = self.store.eviction

    def add(self) -> str:
        self.clock.advance(10)
        self.wall.advance(10)
        return str(self.add_blob(os.urandom(16)))

    def add_partial(self) -> str:
        body = os.urandom(16)
        partial = self.result(self.store.blobs.create_partial(Digest.of(body), is_kept=True))
        self.result(partial.write(body[:-1]))
        self.result(partial.park())
        return self.layout.partial(Digest.of(body)).name

    def use(self, name: str) -> None:
        self.clock.advance(10)
        self.wall.advance(10)
        self.read_blob(Digest.parse(name))

    def pin(self, name: str) -> None:
        blob = self.store.blobs.open(Digest.parse(name))
        assert blob is not None
        self.addCleanup(blob.close)
