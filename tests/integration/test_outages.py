import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.fakes.faults import Hang, Html, Kind, Status
from tests.integration.case import MB, MirrorCase
from tests.integration.client import pull
from tests.integration.daemon import Daemon

_HELD_SECONDS = 3.0
_UNHELD_SECONDS = 25.0
_RECOVERY_SECONDS = 6.0


class OutageTests(MirrorCase):
    """The upstream fails in every way; what is held is served, what is not is never called missing."""

    def _assert_survives(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        image = self.registry.put_image(MB)
        self.registry.put_image(1000, seed=5, tag="unheld")
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        time.sleep(0.2)
        begin()
        with ThreadPoolExecutor(1) as pool:
            unheld = pool.submit(pull, daemon.manifest("unheld"))
            for _ in range(3):
                held = pull(daemon.manifest("latest"))
                self.assert_right(held, image.manifest)
                self.assertIn("detail=stale-if-error", held.cache_status)
                self.assertLess(held.seconds, _HELD_SECONDS)
            answer = unheld.result()
        self.assertTrue(answer.status == 429 or answer.status >= 500, answer)
        self.assertLess(answer.seconds, _UNHELD_SECONDS)
        self.assertIn(b'"errors"', answer.body)
        end()
        self._assert_recovers(daemon)

    def _assert_recovers(self, daemon: Daemon) -> None:
        def is_normal() -> bool:
            is_fresh = "stale-if-error" not in pull(daemon.manifest("latest")).cache_status
            return is_fresh and pull(daemon.manifest("unheld")).status == 200

        self.wait_until(is_normal, _RECOVERY_SECONDS, "normal service")

    def _assert_survives_script(self, fault: Hang | Status | Html) -> None:
        self._assert_survives(lambda: self.registry.play(fault), self.registry.heal)

    def test_down(self) -> None:
        """The upstream refuses connections."""
        self._assert_survives(self.registry.down, self.registry.up)

    def test_hanging(self) -> None:
        """The upstream takes requests and never answers."""
        self._assert_survives_script(Hang(times=None))

    def test_too_many_requests(self) -> None:
        """The upstream answers 429 to everything."""
        self._assert_survives_script(Status(429, times=None))

    def test_too_many_requests_in_plain_text(self) -> None:
        """The upstream answers 429 in Hub's other way, as plain text, to HEAD and GET."""
        self._assert_survives_script(Status(429, body="Too Many Requests", times=None, on=Kind.MANIFEST))

    def test_unavailable(self) -> None:
        """The upstream answers 503."""
        self._assert_survives_script(Status(503, times=None))

    def test_captive_portal(self) -> None:
        """Everything is answered 200 by somebody's page of HTML."""
        self._assert_survives_script(Html(times=None))

    def _fail_tokens(self, fault: Hang | Status) -> None:
        self.registry.revoke_tokens()
        self.registry.play(fault)

    def test_token_service_failing(self) -> None:
        """The token service answers 500."""
        fault = Status(500, on=Kind.TOKEN, times=None)
        self._assert_survives(lambda: self._fail_tokens(fault), self.registry.heal)

    def test_token_service_hanging(self) -> None:
        """The token service never answers."""
        fault = Hang(on=Kind.TOKEN, times=None)
        self._assert_survives(lambda: self._fail_tokens(fault), self.registry.heal)

    def test_the_first_wave_after_an_outage(self) -> None:
        """However many clients come first when the upstream is well again, all of them are served."""
        image = self.registry.put_image(*([1000] * 12))
        daemon = self.start_daemon()
        self.registry.down()
        for blob in image.blobs[:3]:
            self.assertGreaterEqual(pull(daemon.blob(blob.digest)).status, 500)
        self.registry.up()
        time.sleep(_RECOVERY_SECONDS)
        with ThreadPoolExecutor(16) as pool:
            wave = pool.map(pull, [daemon.blob(blob.digest) for blob in image.blobs])
            for pulled, blob in zip(wave, image.blobs, strict=True):
                self.assert_right(pulled, blob)

    def test_a_pull_limit_closes_only_manifest_gets(self) -> None:
        """A 429 on a manifest GET leaves HEADs and blobs of the upstream alone."""
        image = self.registry.put_image(MB)
        self.registry.put_image(1000, seed=5, tag="other")
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.registry.play(Status(429, on=Kind.MANIFEST, method="GET", times=None))
        self.assertIn(pull(daemon.manifest("other")).status, {429, 503})
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
        time.sleep(0.2)
        self.assertNotIn("stale-if-error", pull(daemon.manifest("latest")).cache_status)

    def test_starts_and_serves_with_the_network_unplugged(self) -> None:
        """Nothing contacts the upstream at start, and after a restart everything held is served."""
        image = self.registry.put_image(MB, 2 * MB)
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)
        daemon.stop()
        self.registry.down()
        daemon.start()
        held = pull(daemon.manifest("latest"))
        self.assert_right(held, image.manifest)
        self.assertLess(held.seconds, _HELD_SECONDS)
        self.assert_right(pull(daemon.manifest(image.manifest.digest)), image.manifest)
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_a_tag_seen_by_head_is_held_once_its_digest_is(self) -> None:
        """A tag resolved by HEAD and then pulled by digest, as docker does, outlives the upstream."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon(tag_ttl="100ms")
        head = pull(daemon.manifest("latest"), method="HEAD")
        self.assertEqual(head.header("Docker-Content-Digest"), image.manifest.digest)
        self.assert_right(pull(daemon.manifest(image.manifest.digest)), image.manifest)
        time.sleep(0.2)
        self.registry.down()
        again = pull(daemon.manifest("latest"), method="HEAD")
        self.assertEqual((again.status, again.header("Docker-Content-Digest")), (200, image.manifest.digest))
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)

    def test_a_held_tag_is_not_lost_to_one_that_was_only_seen(self) -> None:
        """When a tag moved to a manifest that cannot be fetched, the old one is served in an outage."""
        held = self.registry.put_image(MB, seed=1)
        daemon = self.start_daemon(tag_ttl="100ms")
        self.assert_right(pull(daemon.manifest("latest")), held.manifest)
        self.registry.put_image(MB, seed=2)
        self.registry.play(Status(503, on=Kind.MANIFEST, method="GET", times=None))
        time.sleep(0.2)
        pull(daemon.manifest("latest"), method="HEAD")
        self.registry.down()
        time.sleep(0.2)
        self.assert_right(pull(daemon.manifest("latest")), held.manifest)


class FreshnessTests(MirrorCase):
    def test_a_fresh_tag_asks_nobody_and_an_old_one_asks_by_head(self) -> None:
        """Twenty pulls of a fresh tag cost nothing upstream; one after its time costs one HEAD and no GET."""
        image = self.registry.put_image(1000)
        daemon = self.start_daemon(tag_ttl="4s")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        fetched_at = time.monotonic()
        self.registry.forget()
        for _ in range(20):
            answer = pull(daemon.manifest("latest"))
            self.assert_right(answer, image.manifest)
            self.assertRegex(answer.cache_status, r"^mirrord; hit; ttl=[0-4]$")
            self.assertIn(answer.header("Age"), {"0", "1", "2", "3", "4"})
        self.assertEqual(self.registry.journal.requests(), ())
        time.sleep(max(0.0, fetched_at + 4.2 - time.monotonic()))
        answer = pull(daemon.manifest("latest"))
        self.assert_right(answer, image.manifest)
        self.assertEqual(answer.cache_status, "mirrord; fwd=stale; fwd-status=200")
        self.assertEqual([seen.method for seen in self.registry.journal.requests(Kind.MANIFEST)], ["HEAD"])

    def test_a_moved_tag_is_fetched_once_by_digest(self) -> None:
        """When a tag has moved, its new manifest costs one GET by digest."""
        self.registry.put_image(1000, seed=1)
        daemon = self.start_daemon(tag_ttl="100ms")
        pull(daemon.manifest("latest"))
        moved = self.registry.put_image(1000, seed=2)
        time.sleep(0.2)
        self.registry.forget()
        answer = pull(daemon.manifest("latest"))
        self.assert_right(answer, moved.manifest)
        self.assertEqual(answer.cache_status, "mirrord; fwd=stale; fwd-status=200; stored")
        gets = self.registry.journal.requests(Kind.MANIFEST, "GET")
        self.assertEqual([seen.target.rpartition("/")[2] for seen in gets], [moved.manifest.digest])

    def test_a_deleted_tag_is_gone(self) -> None:
        """A tag that the upstream no longer has is a 404, not a stale answer."""
        self.registry.put_image(1000)
        daemon = self.start_daemon(tag_ttl="100ms")
        pull(daemon.manifest("latest"))
        self.registry.delete_tag("latest")
        time.sleep(0.2)
        self.assertEqual(pull(daemon.manifest("latest")).status, 404)
