import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.fakes.faults import Hang, Html, Kind, Status
from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon

_CACHED_SECONDS = 3.0
"""The time to serve a cached tag, in which waiting for the upstream takes at most 2.5 s."""

_BUSY_SECONDS = 8.0
"""The same on a machine that has other things to do, still below the upstream's time to respond."""

_UNCACHED_SECONDS = 30.0
"""The time to fail a miss, after which clients give up."""

_OPEN_SECONDS = 5.0
"""The longest time for which the circuit is open."""


class OutageTests(MirrorCase):
    """However the upstream fails, cached content is served, and a miss is an error other than 404."""

    def _assert_survives(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        image = self.registry.put_image(MB)
        self.registry.put_image(1000, seed=5, tag="uncached")
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.wait_until_settled(daemon)
        time.sleep(0.2)
        begin()
        with ThreadPoolExecutor(1) as pool:
            uncached = pool.submit(pull, daemon.manifest("uncached"))
            hits = [pull(daemon.manifest("latest")) for _ in range(3)]
            for cached in hits:
                self.assert_right(cached, image.manifest)
                self.assertIn("detail=stale-if-error", cached.cache_status)
                self.assertLess(cached.seconds, _BUSY_SECONDS)
            self.assertLess(min(cached.seconds for cached in hits), _CACHED_SECONDS)
            pulled = uncached.result()
        self.assertTrue(pulled.status == 429 or pulled.status >= 500, pulled)
        self.assertLess(pulled.seconds, _UNCACHED_SECONDS)
        self.assertIn(b'"errors"', pulled.body)
        end()
        self._assert_recovers(daemon)

    def _assert_recovers(self, daemon: Daemon) -> None:
        def is_normal() -> bool:
            is_fresh = "stale-if-error" not in pull(daemon.manifest("latest")).cache_status
            return is_fresh and pull(daemon.manifest("uncached")).status == 200

        status = json.loads(pull(f"{daemon.admin_url}/status").body)
        for upstream in status["upstreams"]:
            self.assertLessEqual(upstream["manifests_wait_seconds"], _OPEN_SECONDS)
            self.assertLessEqual(upstream["others_wait_seconds"], _OPEN_SECONDS)
        self.wait_until(is_normal, what="normal service")

    def _assert_survives_script(self, fault: Hang | Status | Html) -> None:
        self._assert_survives(lambda: self.registry.play(fault), self.registry.heal)

    def test_down(self) -> None:
        """Cached tags are served while the upstream refuses connections."""
        self._assert_survives(self.registry.down, self.registry.up)

    def test_hanging(self) -> None:
        """Cached tags are served while the upstream accepts requests and never responds."""
        self._assert_survives_script(Hang(times=None))

    def test_too_many_requests(self) -> None:
        """Cached tags are served while the upstream responds with 429 to all requests."""
        self._assert_survives_script(Status(429, times=None))

    def test_too_many_requests_in_plain_text(self) -> None:
        """Cached tags are served while manifests are 429 in plain text, the other way of Docker Hub."""
        self._assert_survives_script(Status(429, body="Too Many Requests", times=None, on=Kind.MANIFEST))

    def test_unavailable(self) -> None:
        """Cached tags are served while the upstream responds with 503."""
        self._assert_survives_script(Status(503, times=None))

    def test_captive_portal(self) -> None:
        """Cached tags are served while a captive portal responds with 200 and HTML to all requests."""
        self._assert_survives_script(Html(times=None))

    def _fail_tokens(self, fault: Hang | Status) -> None:
        self.registry.revoke_tokens()
        self.registry.play(fault)

    def test_token_service_failing(self) -> None:
        """Cached tags are served while the token service responds with 500."""
        fault = Status(500, on=Kind.TOKEN, times=None)
        self._assert_survives(lambda: self._fail_tokens(fault), self.registry.heal)

    def test_token_service_hanging(self) -> None:
        """Cached tags are served while the token service never responds."""
        fault = Hang(on=Kind.TOKEN, times=None)
        self._assert_survives(lambda: self._fail_tokens(fault), self.registry.heal)

    def test_the_first_wave_after_an_outage(self) -> None:
        """All clients are served that pull at the same time when the upstream has recovered."""
        image = self.registry.put_image(*([1000] * 12))
        daemon = self.start_daemon()
        self.registry.down()
        for blob in image.blobs[:3]:
            self.assertGreaterEqual(pull(daemon.blob(blob.digest)).status, 500)
        self.registry.up()
        time.sleep(_OPEN_SECONDS + 1)
        with ThreadPoolExecutor(16) as pool:
            wave = pool.map(pull, [daemon.blob(blob.digest) for blob in image.blobs])
            for pulled, blob in zip(wave, image.blobs, strict=True):
                self.assert_right(pulled, blob)

    def test_a_pull_limit_applies_to_manifest_gets_only(self) -> None:
        """A 429 on a manifest GET opens the circuit for neither HEADs nor blobs of the upstream."""
        image = self.registry.put_image(MB)
        self.registry.put_image(1000, seed=5, tag="other")
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.registry.play(Status(429, on=Kind.MANIFEST, method="GET", times=None))
        self.assertIn(pull(daemon.manifest("other")).status, {429, 503})
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        time.sleep(0.2)
        self.assertNotIn("stale-if-error", pull(daemon.manifest("latest")).cache_status)

    def test_starts_and_serves_without_the_upstream(self) -> None:
        """The upstream is not contacted at start, and after a restart all cached content is served."""
        image = self.registry.put_image(MB, 2 * MB)
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)
        daemon.stop()
        self.registry.down()
        daemon.start()
        cached = pull(daemon.manifest("latest"))
        self.assert_right(cached, image.manifest)
        self.assertLess(cached.seconds, _BUSY_SECONDS)
        self.assert_right(pull(daemon.manifest(image.manifest.digest)), image.manifest)
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_a_tag_resolved_by_head_is_cached_with_its_manifest(self) -> None:
        """A tag resolved by HEAD and then pulled by digest, as docker does, is served in an outage."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(tag_ttl="100ms")
        head = pull(daemon.manifest("latest"), method="HEAD")
        self.assertEqual(head.header("Docker-Content-Digest"), image.manifest.digest)
        self.assert_right(pull(daemon.manifest(image.manifest.digest)), image.manifest)
        self.wait_until_settled(daemon)
        time.sleep(0.2)
        self.registry.down()
        again = pull(daemon.manifest("latest"), method="HEAD")
        self.assertEqual((again.status, again.header("Docker-Content-Digest")), (200, image.manifest.digest))
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)

    def test_a_cached_tag_is_not_replaced_by_a_head(self) -> None:
        """If a tag moved to a manifest that cannot be fetched, the old one is served in an outage."""
        cached = self.registry.put_image(MB, seed=1)
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), cached.manifest)
        self.wait_until_settled(daemon)
        self.registry.put_image(MB, seed=2)
        self.registry.play(Status(503, on=Kind.MANIFEST, method="GET", times=None))
        time.sleep(0.2)
        pull(daemon.manifest("latest"), method="HEAD")
        self.registry.down()
        time.sleep(0.2)
        self.assert_right(pull(daemon.manifest("latest")), cached.manifest)


class FreshnessTests(MirrorCase):
    def test_a_stale_tag_is_revalidated_by_head(self) -> None:
        """Twenty pulls of a fresh tag cost no request upstream; one of a stale tag costs one HEAD."""
        image = self.registry.put_image(1000)
        daemon = self.start_daemon(tag_ttl="8s")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        fetched_at = time.monotonic()
        self.registry.forget()
        for _ in range(20):
            pulled = pull(daemon.manifest("latest"))
            self.assert_right(pulled, image.manifest)
            self.assertRegex(pulled.cache_status, r"^mirrord; hit; ttl=[0-8]$")
            self.assertRegex(pulled.header("Age"), "^[0-8]$")
        self.assertEqual(self.registry.journal.requests(), ())
        time.sleep(max(0.0, fetched_at + 8.2 - time.monotonic()))
        pulled = pull(daemon.manifest("latest"))
        self.assert_right(pulled, image.manifest)
        self.assertEqual(pulled.cache_status, "mirrord; fwd=stale; fwd-status=200")
        self.assertEqual(
            [request.method for request in self.registry.journal.requests(Kind.MANIFEST)], ["HEAD"]
        )

    def test_a_moved_tag_is_fetched_once_by_digest(self) -> None:
        """If a tag has moved, its new manifest costs one GET by digest."""
        self.registry.put_image(1000, seed=1)
        daemon = self.start_daemon(tag_ttl="100ms")
        pull(daemon.manifest("latest"))
        self.wait_until_settled(daemon)
        moved = self.registry.put_image(1000, seed=2)
        time.sleep(0.2)
        self.registry.forget()
        pulled = pull(daemon.manifest("latest"))
        self.assert_right(pulled, moved.manifest)
        self.assertEqual(pulled.cache_status, "mirrord; fwd=stale; fwd-status=200; stored")
        gets = self.registry.journal.requests(Kind.MANIFEST, "GET")
        self.assertEqual([request.target.rpartition("/")[2] for request in gets], [moved.manifest.digest])

    def test_a_deleted_tag(self) -> None:
        """A tag deleted upstream is a 404, not a stale response."""
        self.registry.put_image(1000)
        daemon = self.start_daemon(tag_ttl="100ms")
        pull(daemon.manifest("latest"))
        self.registry.delete_tag("latest")
        time.sleep(0.2)
        self.assertEqual(pull(daemon.manifest("latest")).status, 404)
