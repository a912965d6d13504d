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
        """A blob is fetched from where the registry redirects to, verbatim, without the token."""
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
        """A store's challenge is never satisfied: neither the store nor its realm receives the account."""
        for header in ('Basic realm="x"', f'Bearer realm="{HOME}/token",service="x"'):
            there = [Reply(307, {"Location": CDN}), Reply(401, {"WWW-Authenticate": header})]
            self.use(*there * 2, account=ME)
            self.failure(self.blob(), UpstreamRefused)
            self.assertEqual([None] * 4, self.authorizations)

    def test_range(self) -> None:
        """A range is requested from every origin, the validator sent only to the one it is from."""
        part = Reply(206, {"Content-Range": "bytes 2-3/10"}, b"cd")
        self.use(Reply(307, {"Location": CDN}), part)
        body = self.result(self.blob(offset=2, stop=4, validator='https://cdn.example "e"'))
        self.assertEqual((2, 10), (body.offset, body.size))
        self.assertEqual(["bytes=2-3"] * 2, [request.header("Range") for request in self.agent.requests])
        self.assertEqual([None, '"e"'], [request.header("If-Range") for request in self.agent.requests])

    def test_range_ignored(self) -> None:
        """If the range is ignored, the body begins at offset 0."""
        self.use(Reply(200, {}, b"0123456789"))
        self.assertEqual(0, self.result(self.blob(offset=2)).offset)

    def test_wrong_range(self) -> None:
        """A different range than requested is rejected; a 416 is reported as such."""
        self.use(Reply(206, {"Content-Range": "bytes 3-9/10"}, b"3456789"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(206, {}, b"?"))
        self.failure(self.blob(offset=2), UpstreamRefused)
        self.use(Reply(416))
        self.assertEqual(416, self.failure(self.blob(offset=2), UpstreamRefused).upstream_status)

    def test_expired_url(self) -> None:
        """A URL that the store rejects is requested again from the registry, once."""
        redirect = Reply(307, {"Location": CDN})
        for status in (400, 403, 410):
            self.use(redirect, Reply(status), redirect, Reply(200, {}, b"blob"))
            self.result(self.blob())
            self.use(*[redirect, Reply(status)] * 2)
            self.assertEqual(status, self.failure(self.blob(), UpstreamRefused).upstream_status)
            self.assertEqual(4, len(self.agent.requests))

    def test_definite(self) -> None:
        """The registry's own 404 and 403 are definite errors."""
        for status, kind in ((404, BlobUnknown), (403, Denied)):
            self.use(Reply(status))
            self.failure(self.blob(), kind)

    def test_no_downgrade(self) -> None:
        """A redirect from https to http is rejected, and so are more than five redirects."""
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
        """Whatever the Location, it is followed or an UpstreamError."""
        try:
            redirect = Reply(307, {"Location": start + text})
        except ValueError:
            return
        self.use(redirect, Reply(200, {}, b"b"))
        fetching = self.begin(self.blob())
        fetching.addErrback(lambda failure: failure.trap(UpstreamError))
        self.successResultOf(fetching)

    def test_private_target(self) -> None:
        """A redirect to an address that is not public is followed only from an upstream of the same class."""
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
        for target in ("http://127.0.0.1:5001/status", "http://localhost/", "http://169.254.169.254/"):
            self.use(Reply(307, {"Location": target}), url="http://10.0.0.1")
            self.failure(self.blob(), UpstreamRefused)
            self.assertEqual(1, len(self.agent.requests))
        self.use(Reply(307, {"Location": "http://[::1]/"}), Reply(200, {}, b"b"), url="http://127.0.0.1")
        self.result(self.blob())

    def test_head(self) -> None:
        """HEAD returns a blob's size; the registry's 404 is a definite error."""
        self.use(Reply(200, {"Content-Length": "7"}))
        self.assertEqual(7, self.result(self.client.head_blob(APP, DIGEST, budget_seconds=5)))
        self.use(Reply(404))
        self.failure(self.client.head_blob(APP, DIGEST, budget_seconds=5), BlobUnknown)

    def test_head_refused(self) -> None:
        """If HEAD is rejected, the size is read from the Content-Range of the first byte."""
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
    def test_range_header(self) -> None:
        """A Range header has the last byte; there is none for the whole blob."""
        self.assertIsNone(range_header(0, None))
        self.assertEqual("bytes=5-", range_header(5, None))
        self.assertEqual("bytes=0-0", range_header(0, 1))

    def test_content_range(self) -> None:
        """Content-Range is parsed, also with an unknown size or without a range; invalid ones are None."""
        self.assertEqual(ContentRange(5, 10, 10), ContentRange.parse("bytes 5-9/10"))
        self.assertEqual(ContentRange(0, 1, None), ContentRange.parse("bytes 0-0/*"))
        self.assertEqual(ContentRange(None, None, 0), ContentRange.parse("bytes */0"))
        for text in [None, "", "bytes 9-5/10", "bytes 5-10/10", "items 0-1/2", "bytes 0-1"]:
            self.assertIsNone(ContentRange.parse(text), text)

    def test_validator(self) -> None:
        """A strong ETag is a validator together with its origin; a weak one is not."""
        origin = WebOrigin.of("https://cdn.example")
        validator = Validator.of(origin, '"abc"')
        self.assertEqual('https://cdn.example "abc"', str(validator))
        self.assertEqual(validator, Validator.parse(str(validator)))
        self.assertIsNone(Validator.of(origin, 'W/"abc"'))
        self.assertIsNone(Validator.parse("nonsense"))
        self.assertIsNone(Validator.parse(None))
