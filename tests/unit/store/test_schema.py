import random
import sqlite3
from contextlib import closing

from mirrord.store import schema
from mirrord.store.contents import TOTALS
from mirrord.store.schema import CONTENT, VERSION, ContentRow, connect
from tests.unit.store.cases import APP, DEBIAN, LATEST, UBUNTU, V1, PushTestCase, layer, manifest, observation

_SUMS = """
SELECT count(*), coalesce(sum((size + 4095) / 4096), 0) FROM content WHERE NOT is_hosted UNION ALL
SELECT count(*), coalesce(sum((size + 4095) / 4096), 0) FROM content WHERE is_hosted
"""

IMAGE = manifest(layer(b"x"))

_DOWN = """
DROP TABLE hosted_links; DROP TABLE hosted_tags; DROP TABLE hosted_edges;
DROP TABLE content_totals; DROP TRIGGER content_inserted; DROP TRIGGER content_updated;
DROP TRIGGER content_deleted; DROP INDEX content_by_use; DROP INDEX content_hosted;
ALTER TABLE content DROP COLUMN is_hosted;
CREATE INDEX content_by_use ON content (last_used, digest, kind, size);
PRAGMA user_version = 1;
"""


class UpgradeTests(PushTestCase):
    def downgrade(self) -> None:
        """Turn the index into one of the first version."""
        connection = sqlite3.connect(self.layout.index)
        connection.executescript(_DOWN)
        connection.close()

    def test_an_index_of_the_first_version_is_taken_over(self) -> None:
        """An index of the first version keeps its rows, is not set aside, and accepts pushes."""
        digest = self.add_blob(b"x")
        self.add_manifest(UBUNTU, IMAGE)
        self.store.index.observe_tag(UBUNTU, LATEST, observation(IMAGE))
        totals = self.store.eviction.total_entries, self.store.eviction.total_bytes
        self.result(self.store.close())
        self.downgrade()
        self.store = self.open()
        self.assertEqual([], list(self.root.glob("index.sqlite.broken-*")))
        self.assertEqual(totals, (self.store.eviction.total_entries, self.store.eviction.total_bytes))
        record = self.store.index.tag(UBUNTU, LATEST)
        assert record is not None
        self.assertEqual(observation(IMAGE), record.cached)
        self.assertEqual(b"x", self.read_blob(digest))
        self.push_manifest(IMAGE, V1)
        self.assertEqual(IMAGE.descriptor, self.store.hosted.tag(APP, V1))

    def test_links_that_manifests_gave_are_deleted(self) -> None:
        """An upgrade keeps links of stored manifests, and of stored blobs that no other repository has."""
        other = manifest(note="other")
        self.add_manifest(UBUNTU, IMAGE)
        self.add_manifest(DEBIAN, other)
        for body in (b"own", b"shared", b"hosted"):
            self.add_blob(body)
        self.push_blob(b"hosted")
        references = [*map(layer, (b"own", b"shared", b"hosted", b"absent")), other.descriptor]
        self.store.index.add_links(UBUNTU, references)
        self.store.index.add_links(DEBIAN, [layer(b"shared"), IMAGE.descriptor])
        self.result(self.store.close())
        with closing(sqlite3.connect(self.layout.index)) as connection:
            connection.execute("PRAGMA user_version = 4")
        self.store = self.open()

        kept = {one for one in (IMAGE.descriptor, *references) if self.store.browser.link(UBUNTU, one.digest)}
        self.assertEqual({IMAGE.descriptor, layer(b"own")}, kept)
        self.assertIsNone(self.store.browser.link(DEBIAN, layer(b"shared").digest))
        self.assertIsNone(self.store.browser.link(DEBIAN, IMAGE.digest))
        self.assertEqual(other.descriptor, self.store.browser.link(DEBIAN, other.digest))

    def test_an_upgrade_that_fails_changes_nothing(self) -> None:
        """An upgrade that cannot be finished leaves the old version as it was."""
        self.result(self.store.close())
        self.downgrade()
        connection = sqlite3.connect(self.layout.index)
        connection.execute("CREATE TABLE hosted_edges (in_the_way)")
        self.assertRaises(sqlite3.OperationalError, schema.upgrade, connection)
        self.assertEqual((1,), connection.execute("PRAGMA user_version").fetchone())
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        self.assertNotIn("hosted_links", tables)
        connection.execute("DROP TABLE hosted_edges")
        schema.upgrade(connection)
        self.assertEqual((VERSION,), connection.execute("PRAGMA user_version").fetchone())
        connection.close()
        self.store = self.open()

    def test_totals_are_counted_where_content_is_written(self) -> None:
        """The stored totals are those of the rows, whatever is written, replaced, updated or deleted."""
        connection = connect(self.layout.index)
        self.addCleanup(connection.close)
        draw = random.Random(1)
        for _ in range(1000):
            row = ContentRow(f"sha256:{draw.randrange(20)}", "blob", draw.randrange(10_000), "", 0.0, True)
            match draw.randrange(4):
                case 0:
                    connection.execute(CONTENT.delete, CONTENT.key_of(row))
                case 1:
                    connection.execute(CONTENT.touch, (1.0, row.digest))
                case _:
                    connection.execute(CONTENT.upsert, row._replace(is_hosted=draw.random() < 0.5))
            self.assertEqual(connection.execute(_SUMS).fetchall(), connection.execute(TOTALS).fetchall())

    def test_lru_pages_are_read_by_index(self) -> None:
        """Sweeps read content by an index, without a scan of its rows."""
        connection = connect(self.layout.index)
        self.addCleanup(connection.close)
        sql = (
            "EXPLAIN QUERY PLAN SELECT * FROM content WHERE is_hosted = 0 "
            "AND (last_used, digest, kind) > (0, '', '') ORDER BY last_used, digest, kind"
        )
        plans = [row[3] for row in connection.execute(sql)]
        self.assertTrue(all("content_by_use" in plan or "PRIMARY KEY" in plan for plan in plans), plans)
