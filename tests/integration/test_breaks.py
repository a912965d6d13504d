from tests.fakes.faults import (
    BodyEvent,
    Chunked,
    Cut,
    Event,
    ExpiredUrl,
    Hang,
    Header,
    Html,
    HugeHeaders,
    Kind,
    MissingHeaders,
    NoRange,
    NoRedirect,
    ShortBody,
    Stall,
    Status,
    WrongByte,
)
from tests.integration.case import BIG, MB, MirrorCase
from tests.integration.client import pull, pull_at_once


class BreakTests(MirrorCase):
    def _assert_survives(self, *faults: Event, size: int = 16 * MB, max_overhead: float = 1.05) -> None:
        blob = self.registry.put_image(size).layer
        daemon = self.start_daemon()
        self.registry.play(*faults)
        self.assert_right(pull(daemon.blob(blob.digest)), blob)
        self.assertLessEqual(self.registry.journal.bytes_sent(blob.digest), max_overhead * blob.size)
        self.registry.down()
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_three_cuts_and_two_stalls(self) -> None:
        """A pull is complete although the upstream disconnects three times and stalls twice."""
        part = BIG // 7
        script: list[BodyEvent] = [Cut(part), Cut(part), Cut(part), Stall(part), Stall(part)]
        self._assert_survives(*script, size=BIG)

    def test_a_reset_connection(self) -> None:
        """A download is resumed after a connection reset."""
        self._assert_survives(Cut(5 * MB, abort=True), max_overhead=1.5)  # a reset loses bytes in transit

    def test_a_cut_before_the_first_byte(self) -> None:
        """A download is retried if the body ends before its first byte."""
        self._assert_survives(Cut(0))

    def test_a_signed_url_that_expires_between_two_attempts(self) -> None:
        """If the CDN rejects an expired URL, a new one is requested from the registry."""
        self._assert_survives(Cut(5 * MB), ExpiredUrl())

    def test_errors_of_the_cdn(self) -> None:
        """A 500 and a 503 of the CDN are retried, and are not cached as content."""
        self._assert_survives(Status(500, on=Kind.CONTENT), Status(503, on=Kind.CONTENT), Cut(MB))

    def test_html_at_the_cdn(self) -> None:
        """The page of a captive portal is never cached as a blob."""
        blob = self.registry.put_image(MB).layer
        daemon = self.start_daemon()
        self.registry.play(Html(on=Kind.CONTENT, times=None))
        pulled = pull(daemon.blob(blob.digest))
        self.assertFalse(pulled.status == 200 and pulled.is_complete, pulled)
        self.registry.heal()
        self.wait_until(lambda: pull(daemon.blob(blob.digest)).status == 200, what="the blob")
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_a_body_shorter_than_the_descriptor(self) -> None:
        """No client receives a complete body from an upstream whose blob is shorter than its descriptor."""
        image = self.registry.put_image(4 * MB)
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.registry.play(ShortBody(MB))
        pulled = pull(daemon.blob(image.layer.digest))
        self.assertFalse(pulled.is_complete and pulled.size < image.layer.size, pulled)
        self.wait_until(lambda: pull(daemon.blob(image.layer.digest)).status == 200, what="the blob")
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)

    def test_a_content_length_that_lies(self) -> None:
        """With a Content-Length far beyond the content the pull fails after the idle timeout."""
        blob = self.registry.put_image(MB).layer
        daemon = self.start_daemon(idle_timeout="500ms")
        self.registry.play(Header("Content-Length", str(10**12), on=Kind.CONTENT))
        pulled = pull(daemon.blob(blob.digest))
        self.assertFalse(pulled.status == 200 and pulled.is_complete, pulled)

    def test_huge_headers(self) -> None:
        """A response with megabytes of headers is an upstream error, and is not read into memory."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        self.registry.play(HugeHeaders(8 * MB, on=Kind.MANIFEST))
        self.assertIn(pull(daemon.manifest("latest")).status, {502, 503, 504})
        self.assertLess(daemon.pss(), 72 * MB)
        self.registry.heal()
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 200, what="the manifest")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)


class FlippedByteTests(MirrorCase):
    def _assert_never_served(self, at: int) -> None:
        blob = self.registry.put_image(4 * MB).layer
        self.registry.play(WrongByte(at))
        daemon = self.start_daemon()
        for pulled in pull_at_once(4, daemon.blob(blob.digest)):
            self.assertFalse(
                pulled.is_complete and pulled.status == 200 and pulled.crc32 != blob.crc32, pulled
            )
        self.wait_until(lambda: pull(daemon.blob(blob.digest)).is_complete, what="the blob")
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_the_first_byte(self) -> None:
        """With a corrupt first byte no body is completed, and the next pull is correct."""
        self._assert_never_served(0)

    def test_a_byte_in_the_middle(self) -> None:
        """With a corrupt byte in the middle no body is completed, and the next pull is correct."""
        self._assert_never_served(2 * MB)

    def test_the_last_bytes(self) -> None:
        """With a corrupt byte at the end no body is completed, and the next pull is correct."""
        self._assert_never_served(4 * MB + 1535)

    def test_a_flipped_byte_in_a_manifest(self) -> None:
        """A manifest that does not match its digest is rejected, and the next pull is correct."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        self.registry.play(WrongByte(20, on=Kind.MANIFEST))
        pulled = pull(daemon.manifest(image.manifest.digest))
        if pulled.status == 200:
            self.assert_right(pulled, image.manifest)
        else:
            self.assertEqual(pulled.status, 502)
        self.wait_until(
            lambda: pull(daemon.manifest(image.manifest.digest)).status == 200, what="the manifest"
        )
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)


class MinimalUpstreamTests(MirrorCase):
    """Upstreams without headers or features that most have."""

    def _assert_pulls(self, size: int = 8 * MB) -> None:
        image = self.registry.put_image(size)
        daemon = self.start_daemon()
        head = pull(daemon.manifest("latest"), method="HEAD")
        self.assertEqual((head.status, head.header("Docker-Content-Digest")), (200, image.manifest.digest))
        self.assertEqual(head.header("Content-Length"), str(image.manifest.size))
        manifest = pull(daemon.manifest("latest"))
        self.assert_right(manifest, image.manifest)
        self.assertEqual(manifest.header("Content-Type"), "application/vnd.oci.image.manifest.v1+json")
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)
        self.registry.down()
        for blob in image.blobs:
            self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_without_content_length(self) -> None:
        """Pulls from an upstream without Content-Length are complete, also after a disconnect."""
        self.registry.play(Chunked(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_digest_header(self) -> None:
        """Pulls from an upstream without digest headers are complete, and the responses have the digest."""
        self.registry.play(MissingHeaders(("Docker-Content-Digest", "ETag")), Cut(3 * MB))
        self._assert_pulls()

    def test_without_content_type(self) -> None:
        """A manifest received as text/plain is served with the media type in its body."""
        self.registry.play(Header("Content-Type", "text/plain", on=Kind.MANIFEST))
        self._assert_pulls()

    def test_without_range(self) -> None:
        """From an upstream without Range a broken download starts again from the beginning."""
        self.registry.play(NoRange(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_redirect(self) -> None:
        """Blobs are also downloaded from the registry itself, without a redirect."""
        self.registry.play(NoRedirect(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_anything(self) -> None:
        """Pulls are complete without length, digest, range and redirect at once."""
        names = ("Docker-Content-Digest", "ETag", "Content-Type", "Accept-Ranges")
        self.registry.play(NoRedirect(), NoRange(), Chunked(), MissingHeaders(names), Cut(3 * MB))
        self._assert_pulls()

    def test_a_token_service_that_hangs_once(self) -> None:
        """A token service that does not respond causes an error within 30 s, and the next pull succeeds."""
        self.registry.play(Hang(on=Kind.TOKEN))
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        pulled = pull(daemon.manifest("latest"))
        self.assertLess(pulled.seconds, 30)
        self.assertIn(pulled.status, {200, 502, 503, 504})
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 200, what="the manifest")
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
