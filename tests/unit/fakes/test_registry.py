from collections.abc import Mapping
from hashlib import sha256
from typing import cast

import treq
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseFailed
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from tests.fakes.faults import (
    Chunked,
    Cut,
    ExpiredUrl,
    Kind,
    MissingHeaders,
    NoRange,
    NoRedirect,
    ShortBody,
    Status,
    WrongByte,
)
from tests.fakes.images import make_attachment, make_image
from tests.fakes.registry import FakeRegistry

_SCOPE = "repository:library/app:pull"


class FakeRegistryTests(TestCase):
    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        pool = HTTPConnectionPool(reactor, persistent=False)
        self.client = HTTPClient(cast("IAgent", Agent(reactor, pool=pool)))
        self.registry = FakeRegistry(reactor)
        self.image = make_image([300_000])
        self.layer = self.image.layers[0]
        self.registry.put(self.image)
        self.addCleanup(lambda: Deferred.fromCoroutine(self.registry.down()))
        return Deferred.fromCoroutine(self.registry.up())

    async def _token(self) -> dict[str, str]:
        answer = await self.client.get(f"{self.registry.realm_url}/token", params={"scope": _SCOPE})
        return {"Authorization": f"Bearer {(await answer.json())['token']}"}

    async def _get(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> IResponse:
        raw = {name: [value] for name, value in (headers or {}).items()}
        url = path if path.startswith("http") else f"{self.registry.url}/v2/library/app/{path}"
        return await self.client.request(method, url, headers=Headers(raw), allow_redirects=False)

    async def _content(self, **headers: str) -> IResponse:
        redirect = await self._get(f"blobs/{self.layer.digest}", await self._token())
        self.assertEqual(redirect.code, 307)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._get(redirect.headers.getRawHeaders("Location")[0], named)

    async def test_asks_for_a_token_and_takes_it(self) -> None:
        """A manifest costs a token of its repository's scope, and says its digest and what is left."""
        refused = await self._get("manifests/latest")
        self.assertEqual(refused.code, 401)
        self.assertIn(f'scope="{_SCOPE}"', refused.headers.getRawHeaders("WWW-Authenticate")[0])
        answer = await self._get("manifests/latest", await self._token())
        self.assertEqual(await treq.content(answer), self.image.manifest.content)
        self.assertEqual(answer.headers.getRawHeaders("Docker-Content-Digest"), [self.image.manifest.digest])
        self.assertEqual(answer.headers.getRawHeaders("RateLimit-Remaining"), ["99;w=21600"])
        self.assertEqual(self.registry.tokens.per_scope, {_SCOPE: 1})
        self.assertEqual(len(self.registry.journal.requests(Kind.MANIFEST)), 1)
        self.assertEqual(len(self.registry.journal.requests(Kind.CHALLENGE)), 1)

    async def test_sends_blobs_from_the_cdn_in_ranges(self) -> None:
        """A blob comes from another origin, whole or from any byte on, and every byte is counted."""
        whole = await treq.content(await self._content())
        self.assertEqual(f"sha256:{sha256(whole).hexdigest()}", self.layer.digest)
        rest = await self._content(Range="bytes=1000-")
        self.assertEqual(rest.code, 206)
        self.assertEqual(await treq.content(rest), whole[1000:])
        self.assertEqual(self.registry.journal.bytes_sent(self.layer.digest), 2 * len(whole) - 1000)

    async def test_the_cdn_refuses_an_authorization(self) -> None:
        """Whoever brings his token to the CDN gets a 400."""
        self.assertEqual((await self._content(Authorization="Bearer x")).code, 400)

    async def test_a_signed_url_expires(self) -> None:
        """A redirect is good only as long as the registry says."""
        self.registry.manners.url_lifetime_seconds = -1
        self.assertEqual((await self._content()).code, 403)

    async def test_events_happen_one_after_the_other(self) -> None:
        """Each answer meets the next event of the script, and then none."""
        self.registry.play(Cut(1000), WrongByte(5), ShortBody(10), ExpiredUrl())
        with self.assertRaises(ResponseFailed):
            await treq.content(await self._content())
        wrong = await treq.content(await self._content())
        self.assertEqual(
            [place for place in range(len(wrong)) if wrong[place] != self.layer.content[place]], [5]
        )
        self.assertEqual(len(await treq.content(await self._content())), 10)
        self.assertEqual((await self._content()).code, 403)
        self.assertEqual(await treq.content(await self._content()), self.layer.content)

    async def test_traits_hold_together(self) -> None:
        """A registry can lack redirects, ranges, lengths and digests at once."""
        self.registry.play(NoRedirect(), NoRange(), Chunked(), MissingHeaders(("Docker-Content-Digest",)))
        token = await self._token()
        answer = await self._get(f"blobs/{self.layer.digest}", {**token, "Range": "bytes=5-"})
        self.assertEqual(answer.code, 200)
        self.assertFalse(answer.headers.hasHeader("Content-Length"))
        self.assertFalse(answer.headers.hasHeader("Docker-Content-Digest"))
        self.assertEqual(await treq.content(answer), self.layer.content)
        self.assertEqual(self.registry.journal.bytes_sent(), self.layer.size)

    async def test_a_status_says_when_to_come_back(self) -> None:
        """A scripted status holds for its kind of request only."""
        self.registry.play(Status(429, retry_after=7, on=Kind.MANIFEST, times=None))
        token = await self._token()
        answer = await self._get("manifests/latest", token)
        self.assertEqual((answer.code, answer.headers.getRawHeaders("Retry-After")), (429, ["7"]))
        self.assertEqual((await self._get(f"blobs/{self.layer.digest}", token)).code, 307)
        self.registry.heal()
        self.assertEqual((await self._get("manifests/latest", token)).code, 200)

    async def test_goes_down_and_comes_back_where_it_was(self) -> None:
        """A registry that is down refuses connections; up again it has the same URL."""
        url = self.registry.url
        await self.registry.down()
        with self.assertRaises(Refused):
            await self._get("manifests/latest")
        await self.registry.up()
        self.assertEqual(self.registry.url, url)
        self.assertEqual((await self._get("manifests/latest", await self._token())).code, 200)

    async def test_pages_its_tags(self) -> None:
        """No page of tags is longer than the registry's own limit, and each links to the next."""
        for name in "cab":
            self.registry.put(self.image, tag=name)
        self.registry.manners.page_size = 2
        token = await self._token()
        first = await self._get("tags/list?n=1000", token)
        self.assertEqual((await treq.json_content(first))["tags"], ["a", "b"])
        link = first.headers.getRawHeaders("Link")[0]
        second = await self._get(self.registry.url + link.partition("<")[2].partition(">")[0], token)
        self.assertEqual((await treq.json_content(second))["tags"], ["c", "latest"])

    async def test_has_no_referrers_unless_told(self) -> None:
        """Referrers are a 404 in plain text, as on Docker Hub, or an index when switched on."""
        attachment = make_attachment(self.image.manifest)
        self.registry.put(attachment, tag=None)
        token = await self._token()
        path = f"referrers/{self.image.manifest.digest}"
        self.assertEqual((await self._get(path, token)).code, 404)
        self.registry.manners.has_referrers = True
        found = (await treq.json_content(await self._get(path, token)))["manifests"]
        self.assertEqual([each["digest"] for each in found], [attachment.manifest.digest])

    async def test_keeps_its_pace(self) -> None:
        """A throttled blob takes its time."""
        self.registry.throttle(1_500_000, self.layer.digest)
        began = reactor.seconds()
        await treq.content(await self._content())
        self.assertGreater(reactor.seconds() - began, 0.15)
