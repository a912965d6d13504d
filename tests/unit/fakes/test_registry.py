"""Tests of tests/fakes/registry.py."""

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
        response = await self.client.get(f"{self.registry.realm_url}/token", params={"scope": _SCOPE})
        return {"Authorization": f"Bearer {(await response.json())['token']}"}

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

    async def test_token(self) -> None:
        """A manifest needs a token for its repository; the response has its digest and the rate limit."""
        refused = await self._get("manifests/latest")
        self.assertEqual(refused.code, 401)
        self.assertIn(f'scope="{_SCOPE}"', refused.headers.getRawHeaders("WWW-Authenticate")[0])
        response = await self._get("manifests/latest", await self._token())
        self.assertEqual(await treq.content(response), self.image.manifest.content)
        self.assertEqual(
            response.headers.getRawHeaders("Docker-Content-Digest"), [self.image.manifest.digest]
        )
        self.assertEqual(response.headers.getRawHeaders("RateLimit-Remaining"), ["99;w=21600"])
        self.assertEqual(self.registry.tokens.per_scope, {_SCOPE: 1})
        self.assertEqual(len(self.registry.journal.requests(Kind.MANIFEST)), 1)
        self.assertEqual(len(self.registry.journal.requests(Kind.CHALLENGE)), 1)

    async def test_ranges(self) -> None:
        """A blob is sent by another origin, whole or in part, and its bytes are counted."""
        whole = await treq.content(await self._content())
        self.assertEqual(f"sha256:{sha256(whole).hexdigest()}", self.layer.digest)
        rest = await self._content(Range="bytes=1000-")
        self.assertEqual(rest.code, 206)
        self.assertEqual(await treq.content(rest), whole[1000:])
        self.assertEqual(self.registry.journal.bytes_sent(self.layer.digest), 2 * len(whole) - 1000)

    async def test_authorization_at_the_cdn(self) -> None:
        """The CDN rejects a request with an Authorization header."""
        self.assertEqual((await self._content(Authorization="Bearer x")).code, 400)

    async def test_expired_url(self) -> None:
        """The URL of a redirect expires."""
        self.registry.behavior.url_lifetime_seconds = -1
        self.assertEqual((await self._content()).code, 403)

    async def test_events(self) -> None:
        """Each response consumes the next event of the script."""
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

    async def test_traits(self) -> None:
        """A registry can lack redirects, ranges, lengths and digests at the same time."""
        self.registry.play(NoRedirect(), NoRange(), Chunked(), MissingHeaders(("Docker-Content-Digest",)))
        token = await self._token()
        response = await self._get(f"blobs/{self.layer.digest}", {**token, "Range": "bytes=5-"})
        self.assertEqual(response.code, 200)
        self.assertFalse(response.headers.hasHeader("Content-Length"))
        self.assertFalse(response.headers.hasHeader("Docker-Content-Digest"))
        self.assertEqual(await treq.content(response), self.layer.content)
        self.assertEqual(self.registry.journal.bytes_sent(), self.layer.size)

    async def test_status(self) -> None:
        """A scripted status applies to its kind of request only."""
        self.registry.play(Status(429, retry_after=7, on=Kind.MANIFEST, times=None))
        token = await self._token()
        response = await self._get("manifests/latest", token)
        self.assertEqual((response.code, response.headers.getRawHeaders("Retry-After")), (429, ["7"]))
        self.assertEqual((await self._get(f"blobs/{self.layer.digest}", token)).code, 307)
        self.registry.heal()
        self.assertEqual((await self._get("manifests/latest", token)).code, 200)

    async def test_down_and_up(self) -> None:
        """A registry that is down refuses connections; after that it has the same URL."""
        url = self.registry.url
        await self.registry.down()
        with self.assertRaises(Refused):
            await self._get("manifests/latest")
        await self.registry.up()
        self.assertEqual(self.registry.url, url)
        self.assertEqual((await self._get("manifests/latest", await self._token())).code, 200)

    async def test_tags(self) -> None:
        """A page of tags is no longer than the limit, and links to the next one."""
        for name in "cab":
            self.registry.put(self.image, tag=name)
        self.registry.behavior.page_size = 2
        token = await self._token()
        first = await self._get("tags/list?n=1000", token)
        self.assertEqual((await treq.json_content(first))["tags"], ["a", "b"])
        link = first.headers.getRawHeaders("Link")[0]
        second = await self._get(self.registry.url + link.partition("<")[2].partition(">")[0], token)
        self.assertEqual((await treq.json_content(second))["tags"], ["c", "latest"])

    async def test_referrers(self) -> None:
        """Referrers are a 404 in plain text, as on Docker Hub, or an index if enabled."""
        attachment = make_attachment(self.image.manifest)
        self.registry.put(attachment, tag=None)
        token = await self._token()
        path = f"referrers/{self.image.manifest.digest}"
        self.assertEqual((await self._get(path, token)).code, 404)
        self.registry.behavior.has_referrers = True
        found = (await treq.json_content(await self._get(path, token)))["manifests"]
        self.assertEqual([each["digest"] for each in found], [attachment.manifest.digest])

    async def test_throttled(self) -> None:
        """A throttled blob is sent at its rate."""
        self.registry.throttle(1_500_000, self.layer.digest)
        began = reactor.seconds()
        await treq.content(await self._content())
        self.assertGreater(reactor.seconds() - began, 0.15)
