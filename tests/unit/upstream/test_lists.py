"""Tests of mirrord/upstream/lists.py, over a network in memory."""

import json
from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mirrord.oci.errors import (
    ManifestUnknown,
    NameUnknown,
    UpstreamError,
    UpstreamRefused,
)
from mirrord.oci.manifests import OCI_INDEX
from tests.unit.upstream.cases import APP, DIGEST, ClientTestCase
from tests.unit.upstream.scripted import (
    HOME,
    Reply,
    SentRequest,
)

_LINKS = '</v2?n=1>;, rel="next" \\\t%:@[]#.'
"""Characters of Link headers, and some that break URLs."""


class ListTests(ClientTestCase):
    def tags(self) -> Coroutine[Any, Any, list[str]]:
        return self.client.list_tags(APP, budget_seconds=5)

    def test_pages(self) -> None:
        """All pages are followed by their links, unchanged, and the tags sorted."""
        link = {"Link": '</v2/library/app/tags/list?next_page=x%2Fy>; rel="next"'}
        self.use(Reply(200, link, b'{"tags": ["b", "a"]}'), Reply(200, {}, b'{"tags": ["c", "a", 5]}'))
        self.assertEqual(["a", "b", "c"], self.result(self.tags()))
        self.assertEqual(f"GET {HOME}/v2/library/app/tags/list?next_page=x%2Fy", self.agent.lines[1])

    def test_no_tags(self) -> None:
        """A repository without tags has an empty list; one that does not exist is unknown."""
        self.use(Reply(200, {}, b'{"name": "library/app", "tags": null}'))
        self.assertEqual([], self.result(self.tags()))
        self.use(Reply(404))
        self.failure(self.tags(), NameUnknown)

    def test_bad_links(self) -> None:
        """A link to another origin, or to a page that was fetched before, is an error."""
        for target in ("https://evil.example/", "http://registry.example/", "?n=1000"):
            self.use(*[Reply(200, {"Link": f"<{target}>; rel=next"}, b'{"tags": []}')] * 2)
            listing = self.begin(self.tags())
            self.clock.advance(1)
            self.failureResultOf(listing, UpstreamRefused)

    @given(st.lists(st.text(_LINKS, max_size=40) | st.text(max_size=40), max_size=3), st.booleans())
    def test_any_link(self, parts: list[str], is_next: bool) -> None:
        """Whatever the Link, the list is read to its end, or is an UpstreamError, at its own origin."""
        header = ("<" if is_next else "") + ",".join(parts) + (">; rel=next" if is_next else "")
        page = Reply(200, {"Link": header}, b'{"tags": ["a"]}')
        self.use(*[page] * 2, *[Reply(200, {}, b'{"tags": ["b"]}')] * 2)
        listing = self.begin(self.tags())
        self.clock.advance(1)
        listing.addErrback(lambda failure: failure.trap(UpstreamError))
        self.successResultOf(listing)
        for request in self.agent.requests:
            self.assertTrue(request.url.startswith(f"{HOME}/"), request.url)

    def test_endless(self) -> None:
        """An endless list is aborted, by its number of pages or by the budget."""
        self.use()
        count = iter(range(10_000))

        def page(_: SentRequest) -> Reply:
            return Reply(200, {"Link": f"<?p={next(count)}>; rel=next"}, b'{"tags": []}')

        self.agent.always = page
        self.failure(self.client.list_tags(APP, budget_seconds=0.3), UpstreamRefused)
        self.assertLessEqual(len(self.agent.requests), 1000)

    def test_longest(self) -> None:
        """Lists have limits: of one page, of all pages together, of the tags in them."""
        page = b'{"tags": ["x"]}'.ljust(1048576)
        pages = [Reply(200, {"Link": f"<?p={number}>; rel=next"}, page) for number in range(32)]
        self.use(*pages[:31], Reply(200, {}, page))
        self.assertEqual(1, len(self.result(self.tags())))
        crowd = Reply(
            200, {"Link": "<?p=2>; rel=next"}, json.dumps({"tags": [*map(str, range(110_000))]}).encode()
        )
        more = Reply(200, {}, json.dumps({"tags": [*map(str, range(100_000, 200_000))]}).encode())
        self.use(crowd, more)
        self.assertEqual(200_000, len(self.result(self.tags())))

        above = Reply(200, {}, json.dumps({"tags": [*map(str, range(100_000, 200_001))]}).encode())
        for script in ([Reply(200, {}, page + b" ")], [*pages, Reply(200, {}, b"{}")], [crowd, above]):
            self.use(*script * 2)
            listing = self.begin(self.tags())
            self.clock.advance(1)
            self.failureResultOf(listing, UpstreamRefused)

    def test_longest_referrers(self) -> None:
        """The pages of referrers have 4 MiB together at most, like any index."""
        page = b'{"manifests": []}'.ljust(1048576)
        pages = [Reply(200, {"Link": f"<?p={number}>; rel=next"}, page) for number in range(4)]
        self.use(*pages[:3], Reply(200, {}, page))
        self.result(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))

        self.use(*[*pages, Reply(200, {}, page[:20])] * 2)
        listing = self.begin(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))
        self.clock.advance(1)
        self.failureResultOf(listing, UpstreamRefused)

    def test_referrers(self) -> None:
        """The pages of referrers are merged into one index, and reported as filtered if all were."""
        first = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [{"a": 1}]}
        second = {**first, "manifests": [{"b": 2}]}
        filtered = {"OCI-Filters-Applied": "artifactType"}
        self.use(
            Reply(200, {"Link": '<?p=2>; rel="next"', **filtered}, json.dumps(first).encode()),
            Reply(200, filtered, json.dumps(second).encode()),
        )
        body, is_filtered = self.result(self.client.list_referrers(APP, DIGEST, "a/b", budget_seconds=5))
        self.assertEqual({**first, "manifests": [{"a": 1}, {"b": 2}]}, json.loads(body))
        self.assertTrue(is_filtered)
        self.assertEqual(
            f"GET {HOME}/v2/library/app/referrers/{DIGEST}?artifactType=a%2Fb", self.agent.lines[0]
        )

    def test_one_page_is_verbatim(self) -> None:
        """A single page of referrers is returned verbatim."""
        sent = b'{ "manifests": [] , "mediaType": "x"}'
        self.use(Reply(200, {}, sent))
        self.assertEqual(
            (sent, False), self.result(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))
        )

    def test_no_referrers(self) -> None:
        """An upstream without the API may respond in several ways; an invalid page is not a 404."""
        for reply in (Reply(404), Reply(405), Reply(400), Reply(303, {"Location": "https://github.com/"})):
            self.use(reply)
            self.failure(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5), ManifestUnknown)
            self.assertEqual(1, len(self.agent.requests))
        self.use(Reply(200, {}, b"<html>"), Reply(200, {}, b"<html>"))
        listing = self.begin(self.client.list_referrers(APP, DIGEST, None, budget_seconds=5))
        self.clock.advance(1)
        self.failureResultOf(listing, UpstreamRefused)
