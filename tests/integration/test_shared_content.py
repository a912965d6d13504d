"""Content of several repositories: downloaded once, and readable through each without the upstream."""

from tests.fakes.faults import Kind
from tests.integration.case import MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon
from tests.integration.pushing import digest_of, image, index

BASE, TOP, CONFIG = b"base layer", b"top layer", b"config"
FIRST, SECOND = "library/first", "library/second"


class SharedContentTests(MirrorCase):
    def setUp(self) -> None:
        super().setUp()
        self.first = image(BASE, config=CONFIG)
        self.second = image(BASE, TOP, config=CONFIG)
        for repository, manifest, blobs in (
            (FIRST, self.first, (BASE, CONFIG)),
            (SECOND, self.second, (BASE, TOP, CONFIG)),
        ):
            self.registry.put_manifest(manifest, repository, "latest")
            for blob in blobs:
                self.registry.put_content(blob, repository)

    def heads(self, content: bytes) -> int:
        return len(self.registry.journal.requests(Kind.BLOB, "HEAD", f"{SECOND}/blobs/{digest_of(content)}"))

    def assert_pulled(self, daemon: Daemon, repository: str, manifest: bytes, *blobs: bytes) -> None:
        self.assertEqual(manifest, pull(daemon.manifest("latest", repository)).body)
        for blob in blobs:
            self.assertEqual(blob, pull(daemon.blob(digest_of(blob), repository)).body)

    def test_from_a_host_that_has_the_base(self) -> None:
        """After a pull by a host that has the base layer, an empty host pulls all without the upstream."""
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_pulled(daemon, FIRST, self.first, BASE, CONFIG)
        self.wait_until_settled(daemon)
        self.assert_pulled(daemon, SECOND, self.second, TOP)
        self.wait_until(lambda: daemon.is_complete(f"docker.io/{SECOND}:latest"), what="confirmations")
        for is_restarted in (False, True):
            if is_restarted:
                daemon.stop()
                daemon.start()
            self.registry.down()
            self.assert_pulled(daemon, SECOND, self.second, BASE, TOP, CONFIG)
            self.registry.up()
        self.assertEqual((1, 1), (self.heads(BASE), self.heads(CONFIG)))
        self.assertEqual(len(BASE), self.registry.journal.bytes_sent(digest_of(BASE)))

    def test_an_image_of_an_index(self) -> None:
        """An image that a second repository lists in its index is confirmed with its layers."""
        both = index(self.first)
        self.registry.put_manifest(both, SECOND, "both", "application/vnd.oci.image.index.v1+json")
        self.registry.put_manifest(self.first, SECOND)
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_pulled(daemon, FIRST, self.first, BASE, CONFIG)
        self.wait_until_settled(daemon)
        self.assertEqual(both, pull(daemon.manifest("both", SECOND)).body)
        self.wait_until(lambda: daemon.is_complete(f"docker.io/{SECOND}:both"), what="confirmations")
        self.registry.down()
        self.assertEqual(both, pull(daemon.manifest("both", SECOND)).body)
        self.assertEqual(self.first, pull(daemon.manifest(digest_of(self.first), SECOND)).body)
        for blob in (BASE, CONFIG):
            self.assertEqual(blob, pull(daemon.blob(digest_of(blob), SECOND)).body)
        self.registry.up()

    def test_a_shared_layer_costs_one_head(self) -> None:
        """A layer that is stored for another repository costs one HEAD and no GET."""
        daemon = self.start_daemon()
        self.assert_pulled(daemon, FIRST, self.first, BASE, CONFIG)
        for _ in range(3):
            self.assertEqual(BASE, pull(daemon.blob(digest_of(BASE), SECOND)).body)
        self.assertEqual(1, self.heads(BASE))
        self.assertEqual(1, len(self.registry.journal.requests(Kind.CONTENT, "GET", digest_of(BASE))))
