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
    def _assert_survives(self, *faults: Event, size: int = 16 * MB, most: float = 1.05) -> None:
        blob = self.registry.put_image(size).layer
        daemon = self.start_daemon()
        self.registry.play(*faults)
        self.assert_right(pull(daemon.blob(blob.digest)), blob)
        self.assertLessEqual(self.registry.journal.bytes_sent(blob.digest), most * blob.size)
        self.registry.down()
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_three_cuts_and_two_stalls(self) -> None:
        """The upstream cuts three times and stalls twice; the client gets one whole body all the same."""
        part = BIG // 7
        script: list[BodyEvent] = [Cut(part), Cut(part), Cut(part), Stall(part), Stall(part)]
        self._assert_survives(*script, size=BIG)

    def test_a_reset_connection(self) -> None:
        """A connection that is reset is resumed like one that is closed."""
        self._assert_survives(Cut(5 * MB, abort=True), most=1.5)  # a reset loses what is on its way

    def test_a_cut_before_the_first_byte(self) -> None:
        """A body that ends before it begins is asked for again."""
        self._assert_survives(Cut(0))

    def test_a_signed_url_that_expires_between_two_attempts(self) -> None:
        """When the CDN says that the URL is too old, the registry is asked for a new one."""
        self._assert_survives(Cut(5 * MB), ExpiredUrl())

    def test_a_cdn_in_trouble(self) -> None:
        """A 500, a 503 and a page of HTML at the CDN are tried again, and none of them is content."""
        self._assert_survives(Status(500, on=Kind.CONTENT), Status(503, on=Kind.CONTENT), Cut(MB))

    def test_html_at_the_cdn(self) -> None:
        """A captive portal's page is never taken for a blob."""
        blob = self.registry.put_image(MB).layer
        daemon = self.start_daemon()
        self.registry.play(Html(on=Kind.CONTENT, times=None))
        answer = pull(daemon.blob(blob.digest))
        self.assertFalse(answer.status == 200 and answer.is_complete, answer)
        self.registry.heal()
        self.wait_until(lambda: pull(daemon.blob(blob.digest)).status == 200, 6, "the right blob")
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_a_body_shorter_than_the_descriptor(self) -> None:
        """An upstream that ends early, and says so, leaves no client with a complete wrong body."""
        image = self.registry.put_image(4 * MB)
        daemon = self.start_daemon()
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)
        self.registry.play(ShortBody(MB))
        answer = pull(daemon.blob(image.layer.digest))
        self.assertFalse(answer.is_complete and answer.size < image.layer.size, answer)
        self.wait_until(lambda: pull(daemon.blob(image.layer.digest)).status == 200, 6, "the right blob")
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)

    def test_a_content_length_that_lies(self) -> None:
        """A Content-Length far beyond the content ends in no complete answer, and in no wait without end."""
        blob = self.registry.put_image(MB).layer
        daemon = self.start_daemon(idle_timeout="500ms")
        self.registry.play(Header("Content-Length", str(10**12), on=Kind.CONTENT))
        answer = pull(daemon.blob(blob.digest))
        self.assertFalse(answer.status == 200 and answer.is_complete, answer)

    def test_headers_without_end(self) -> None:
        """An upstream with megabytes of headers is a failure, not a hole in our memory."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        self.registry.play(HugeHeaders(8 * MB, on=Kind.MANIFEST))
        self.assertIn(pull(daemon.manifest("latest")).status, {502, 503, 504})
        self.assertLess(daemon.pss(), 72 * MB)
        self.registry.heal()
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 200, 6, "the manifest")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)


class FlippedByteTests(MirrorCase):
    def _assert_nobody_has_it(self, at: int) -> None:
        blob = self.registry.put_image(4 * MB).layer
        self.registry.play(WrongByte(at))
        daemon = self.start_daemon()
        for answer in pull_at_once(4, daemon.blob(blob.digest)):
            self.assertFalse(
                answer.is_complete and answer.status == 200 and answer.crc32 != blob.crc32, answer
            )
        self.wait_until(lambda: pull(daemon.blob(blob.digest)).is_complete, 6, "a right answer")
        self.assert_right(pull(daemon.blob(blob.digest)), blob)

    def test_the_first_byte(self) -> None:
        """A wrong first byte: no client holds a complete body, nothing is kept, the next pull is right."""
        self._assert_nobody_has_it(0)

    def test_a_byte_in_the_middle(self) -> None:
        """A wrong byte in the middle: no client holds a complete body, and the next pull is right."""
        self._assert_nobody_has_it(2 * MB)

    def test_the_last_bytes(self) -> None:
        """A wrong byte at the end: no client holds a complete body, and the next pull is right."""
        self._assert_nobody_has_it(4 * MB + 1535)

    def test_a_flipped_byte_in_a_manifest(self) -> None:
        """A manifest that is not what its digest says is refused, and right the next time."""
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        self.registry.play(WrongByte(20, on=Kind.MANIFEST))
        answer = pull(daemon.manifest(image.manifest.digest))
        if answer.status == 200:
            self.assert_right(answer, image.manifest)
        else:
            self.assertEqual(answer.status, 502)
        self.wait_until(lambda: pull(daemon.manifest(image.manifest.digest)).status == 200, 6, "the manifest")
        self.assert_right(pull(daemon.manifest("latest")), image.manifest)


class LackingUpstreamTests(MirrorCase):
    """Upstreams that leave out what most of them say."""

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
        """Pulls from an upstream that names no length are right, also when it breaks in the middle."""
        self.registry.play(Chunked(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_digest_header(self) -> None:
        """Pulls from an upstream that names no digest are right, and our answers name it."""
        self.registry.play(MissingHeaders(("Docker-Content-Digest", "ETag")), Cut(3 * MB))
        self._assert_pulls()

    def test_without_content_type(self) -> None:
        """A manifest that comes as text/plain leaves with the media type that its body names."""
        self.registry.play(Header("Content-Type", "text/plain", on=Kind.MANIFEST))
        self._assert_pulls()

    def test_without_range(self) -> None:
        """An upstream that knows no Range is read again from the start when it breaks."""
        self.registry.play(NoRange(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_redirect(self) -> None:
        """Blobs may come from the registry itself."""
        self.registry.play(NoRedirect(), Cut(3 * MB))
        self._assert_pulls()

    def test_without_anything(self) -> None:
        """No length, digest, range or redirect at once."""
        names = ("Docker-Content-Digest", "ETag", "Content-Type", "Accept-Ranges")
        self.registry.play(NoRedirect(), NoRange(), Chunked(), MissingHeaders(names), Cut(3 * MB))
        self._assert_pulls()

    def test_a_token_service_that_hangs_once(self) -> None:
        """A token service that does not answer costs an error within 25 s, and the next pull is right."""
        self.registry.play(Hang(on=Kind.TOKEN))
        image = self.registry.put_image(MB)
        daemon = self.start_daemon()
        answer = pull(daemon.manifest("latest"))
        self.assertLess(answer.seconds, 25)
        self.assertIn(answer.status, {200, 502, 503, 504})
        self.wait_until(lambda: pull(daemon.manifest("latest")).status == 200, 10, "the manifest")
        self.assert_right(pull(daemon.blob(image.layer.digest)), image.layer)
