"""ListRequests: request all pages of tags and referrers, within limits.

A page names the next one by a Link header (RFC 8288), which is followed unchanged: some registries put
a cursor into it. It must point to the origin of its page, and not to a page that was fetched before.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

import attrs
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import ManifestUnknown, NameUnknown, RegistryError, UpstreamRefused
from mirrord.oci.manifests import MAX_MANIFEST_BYTES, OCI_INDEX
from mirrord.oci.names import RepositoryName
from mirrord.upstream.api import RegistryAPI, UpstreamRequest, refusal
from mirrord.upstream.origin import WebOrigin, resolve
from mirrord.upstream.retry import Deadline
from mirrord.upstream.transport import UpstreamResponse

PAGE_SIZE = 1000
"""Tags per page; the maximum of distribution, other registries send fewer."""

MAX_PAGES = 1000
MAX_PAGE_BYTES = 1024 * 1024
"""Parsing a page blocks all threads, for 7 ms (tags) to 90 ms (the worst): `json` keeps the GIL."""

MAX_TAGS_BYTES = 32 * 1024 * 1024
"""The most bytes of all pages; some registries send more than its name for each tag."""

MAX_TAGS = 200_000
"""They need 24 MiB and, as most registries send them in order, 10 ms to sort."""

_NEXT = re.compile(r"<([^<>]*)>((?:\s*;[^,;]*)*)", re.ASCII)
_REL_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', re.ASCII | re.IGNORECASE)


@attrs.frozen
class ListRequests:
    """Requests lists from one upstream."""

    _api: RegistryAPI

    async def tags(self, repository: RepositoryName, deadline: Deadline) -> list[str]:
        """Return all tags, sorted."""
        tags: dict[str, None] = {}
        url = f"{self._api.home}/v2/{repository}/tags/list?n={PAGE_SIZE}"
        request = UpstreamRequest("GET", url, kind="tags", repository=repository)
        async with aclosing(self._pages(request, MAX_TAGS_BYTES, deadline, _tags_error)) as pages:
            async for _, body in pages:
                listed = _parse(body).get("tags")
                if listed is not None and not isinstance(listed, list):
                    raise UpstreamRefused("the upstream sent no list of tags", upstream_status=200)
                tags.update((tag, None) for tag in listed or () if isinstance(tag, str))
                if len(tags) > MAX_TAGS:
                    raise UpstreamRefused(f"the upstream sent more than {MAX_TAGS} tags", upstream_status=200)
        return sorted(tags)

    async def referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, deadline: Deadline
    ) -> tuple[bytes, bool]:
        """Return an image index of all referrers, and whether each page was filtered by the artifact type.

        A single page is returned verbatim.
        """
        query = "" if artifact_type is None else "?" + urlencode({"artifactType": artifact_type})
        url = f"{self._api.home}/v2/{repository}/referrers/{digest}{query}"
        request = UpstreamRequest(
            "GET",
            url,
            kind="referrers",
            repository=repository,
            headers_for=lambda _: Headers({"Accept": [OCI_INDEX]}),
            is_followed=False,
        )
        indexes: list[dict[str, Any]] = []
        filtered: list[bool] = []
        async with aclosing(self._pages(request, MAX_MANIFEST_BYTES, deadline, _referrers_error)) as pages:
            async for response, body in pages:
                indexes.append(_parse_index(body))
                filtered.append("artifacttype" in (response.header("OCI-Filters-Applied") or "").lower())
        return (body if len(indexes) == 1 else _merge(indexes)), all(filtered)

    async def _pages(
        self,
        request: UpstreamRequest,
        max_bytes: int,
        deadline: Deadline,
        error_of: Callable[[int], RegistryError],
    ) -> AsyncGenerator[tuple[UpstreamResponse, bytes], None]:
        """Yield the pages in order, `max_bytes` in all."""
        fetched = set[str]()
        url: str | None = request.url
        while url is not None:
            if url in fetched or len(fetched) == MAX_PAGES:
                raise UpstreamRefused("the list has too many pages or a loop", upstream_status=200)
            fetched.add(url)
            response = await self._api.send(attrs.evolve(request, url=url), deadline)
            if response.status != 200:
                await self._api.transport.discard(response, deadline)
                raise error_of(response.status)
            body = await self._api.transport.bodies.read_all(
                response.raw, min(max_bytes, MAX_PAGE_BYTES), deadline
            )
            max_bytes -= len(body)
            yield response, body
            url = next_page(response.url, response.headers("Link"))


def next_page(page: str, links: Iterable[str]) -> str | None:
    """Return the URL of the page after `page`, from its Link headers; None after the last.

    Raises:
        UpstreamRefused: It is at another origin.
    """
    for target, parameters in _NEXT.findall(", ".join(links)):
        if _REL_NEXT.search(parameters):
            url = resolve(page, target)
            if WebOrigin.of(url) != WebOrigin.of(page):
                raise UpstreamRefused("the list continues at another origin", upstream_status=200)
            return url
    return None


def _tags_error(status: int) -> RegistryError:
    return refusal(status, "tags", NameUnknown("the upstream has no such repository"))


def _referrers_error(status: int) -> RegistryError:
    """Return the error for referrers with a status other than 200.

    Registries without the referrers API respond with 404 as a rule; ghcr.io redirects.
    """
    unknown = ManifestUnknown("the upstream has no referrers API")
    if status in {400, 405, 406, 501} or 300 <= status < 400:
        return unknown
    return refusal(status, "referrers", unknown)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UpstreamRefused("the upstream sent no JSON object", upstream_status=200)
    return document


def _parse_index(body: bytes) -> dict[str, Any]:
    document = _parse(body)
    if not isinstance(document.get("manifests"), list):
        raise UpstreamRefused("the upstream sent no image index of referrers", upstream_status=200)
    return document


def _merge(indexes: list[dict[str, Any]]) -> bytes:
    """Merge the manifests of all pages into one index."""
    merged = {**indexes[0], "manifests": [entry for index in indexes for entry in index["manifests"]]}
    return json.dumps(merged, separators=(",", ":"), ensure_ascii=False).encode()
