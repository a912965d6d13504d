"""Tests of mirrord/upstream/blobs.py, over a network in memory."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.errors import (
    BlobUnknown,
    Denied,
    UpstreamError,
    UpstreamRefused,
)
from mirrord.upstream.blobs import ContentRange, Validator, range_header
from mirrord.upstream.origin import WebOrigin
from tests.unit.upstream.cases import APP, CDN, DIGEST, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    ME,
    Reply,
    challenge,
    token,
)


class BlobTests(ClientTestCase):
    def test_redirected(self) -> None:
        """A blob is fetched where the registry keeps it, verbatim, without our token."""
        self.use(
            challenge(),
            token(),
            Reply(307, {"Location": CDN}, b"see there"),
            Reply(200, {"ETag": '"e"'}, b"blob"),
        )
        body = self.result(self.blob())
        self.assertEqual((0, 4, 'https://cdn.example "e"'), (body.offset, body.size, body.validator))
        self.assertEqual(b"blob", self.result(body.read()))
        self.assertEqual(b"", self.result(body.read()))
        self.assertEqual(f"GET {CDN}", self.agent.lines[-1])
        self.assertEqual([None, None, "Bearer t1", None], self.authorizations)

    def test_challenge_of_a_store(self) -> None:
        """A store that asks for credentials is never met: neither it nor its realm learns our account."""
        for asks in ('Basic realm="x"', f'Bearer realm="{HOME}/token",service="x"'):
            there = [Reply(307, {"Location": CDN}), Reply(401, {"WWW-Authenticate": asks})]
            self.use(*there * 2, account=ME)
            self.failure(self.blob(), UpstreamRefused)
            self.assertEqual([None] * 4, self.authorizations)

    def test_range(self) -> None:
        """A range is asked for at every hop, the validator only where it came from."""
        part = Reply(206, {"Content-Range": "bytes 2-3/10"}, b"cd")
        self.use(Reply(307, {"Location": CDN}), part)
        body = self.result(self.blob(offset=2, stop=4, validator='https://cdn.example "e"'))
        self.assertEqual((2, 10), (body.offset, body.size))
        self.assertEqual(["bytes=2-3"] * 2, [asked.header("Range") for asked in self.agent.requests])
        self.assertEqual([None, '"e"'], [asked.header("If-Range") for asked in self.agent.requests])

    def test_range_ignored(self) -> None:
        """Where the range is ignored, the body begins at nought."""
        self.use(Reply(200, {}, b"0123456789"))
        self.assertEqual(0, self.result(self.blob(offset=2)).offset)

    def test_wrong_range(self) -> None:
        """Another range than asked for is refused, and one that nothing fits is told as 416."""
        self.use(Reply(206, {"Content-Range": "bytes 3-9/10"}, b"3456789"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(206, {}, b"?"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(416))
        self.assertEqual(416, self.failure(self.blob(offset=2), UpstreamRefused).upstream_status)

    def test_expired_url(self) -> None:
        """A URL that the store does not take any more is asked for anew, once."""
        redirect = Reply(307, {"Location": CDN})
        for status in (400, 403, 410):
            self.use(redirect, Reply(status), redirect, Reply(200, {}, b"blob"))
            self.result(self.blob())
            self.use(*[redirect, Reply(status)] * 2)
            self.assertEqual(status, self.failure(self.blob(), UpstreamRefused).upstream_status)
            self.assertEqual(4, len(self.agent.requests))

    def test_definite(self) -> None:
        """The registry's own 404 and 403 are definite."""
        for status, kind in ((404, BlobUnknown), (403, Denied)):
            self.use(Reply(status))
            self.failure(self.blob(), kind)

    def test_no_downgrade(self) -> None:
        """A redirect from https to http is not followed, nor are more than five."""
        self.use(Reply(307, {"Location": "http://cdn.example/"}))
        self.failure(self.blob(), UpstreamRefused)
        self.use(*[Reply(307, {"Location": CDN})] * 6)
        self.failure(self.blob(), UpstreamRefused)
        self.assertEqual(6, len(self.agent.requests))

    @given(
        st.text(st.characters(max_codepoint=255), max_size=60),
        st.sampled_from(["", "https://", "https://a", "//"]),
    )
    def test_any_location(self, text: str, start: str) -> None:
        """Whatever a Location says, it is followed or the upstream failed."""
        try:
            redirect = Reply(307, {"Location": start + text})
        except ValueError:
            return
        self.use(redirect, Reply(200, {}, b"b"))
        fetching = self.begin(self.blob())
        fetching.addErrback(lambda failure: failure.trap(UpstreamError))
        self.successResultOf(fetching)

    def test_private_target(self) -> None:
        """A public upstream is not followed into our own network; one on a private address is, there."""
        for target in (
            "https://127.0.0.1/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "https://localhost/",
            "https://2130706433/",
        ):
            self.use(Reply(307, {"Location": target}))
            self.failure(self.blob(), UpstreamRefused)
            self.assertEqual(1, len(self.agent.requests))
        self.use(Reply(307, {"Location": "https://10.0.0.2/"}), Reply(200, {}, b"b"), url="https://10.0.0.1")
        self.result(self.blob())

    def test_head(self) -> None:
        """HEAD tells a blob's size; a 404 of the registry is definite."""
        self.use(Reply(200, {"Content-Length": "7"}))
        self.assertEqual(7, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(404))
        self.failure(self.client.head_blob(APP, DIGEST, budget_seconds=5), BlobUnknown)

    def test_head_refused(self) -> None:
        """Where HEAD is refused, the first byte's Content-Range tells the size."""
        part = Reply(206, {"Content-Range": "bytes 0-0/7"}, b"a")
        redirect = Reply(307, {"Location": CDN})
        for script in (
            [Reply(405), part],
            [Reply(403), part],
            [Reply(500), part],
            [redirect, Reply(403), redirect, part],
            [challenge(), token(), challenge(), part],
            [Reply(405), Reply(200, {}, b"1234567")],
        ):
            self.use(*script)
            self.assertEqual(7, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(405), Reply(416, {"Content-Range": "bytes */0"}))
        self.assertEqual(0, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(405), Reply(404))
        self.failure(self.client.head_blob(APP, DIGEST, budget_seconds=5), BlobUnknown)


class RangeTests(SynchronousTestCase):
    def test_asking(self) -> None:
        """A range is asked for by its last byte, and the whole by nothing."""
        self.assertIsNone(range_header(0, None))
        self.assertEqual("bytes=5-", range_header(5, None))
        self.assertEqual("bytes=0-0", range_header(0, 1))

    def test_content_range(self) -> None:
        """What a Content-Range says is read, also of unknown size and of nothing; nonsense is none."""
        self.assertEqual(ContentRange(5, 10, 10), ContentRange.parse("bytes 5-9/10"))
        self.assertEqual(ContentRange(0, 1, None), ContentRange.parse("bytes 0-0/*"))
        self.assertEqual(ContentRange(None, None, 0), ContentRange.parse("bytes */0"))
        for text in [None, "", "bytes 9-5/10", "bytes 5-10/10", "items 0-1/2", "bytes 0-1"]:
            self.assertIsNone(ContentRange.parse(text), text)

    def test_validator(self) -> None:
        """A strong ETag is kept with its origin; a weak one is worth nothing."""
        origin = WebOrigin.of("https://cdn.example")
        validator = Validator.of(origin, '"abc"')
        self.assertEqual('https://cdn.example "abc"', str(validator))
        self.assertEqual(validator, Validator.parse(str(validator)))
        self.assertIsNone(Validator.of(origin, 'W/"abc"'))
        self.assertIsNone(Validator.parse("nonsense"))
        self.assertIsNone(Validator.parse(None))
