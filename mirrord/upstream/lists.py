"""Lists: tags and referrers, every page of them, within limits.

A page names the next one by a Link header (RFC 8288), which is followed as it stands: some
registries hide a cursor in it. It must not lead away from the origin of its page, and not to a page
that was seen.
"""

import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlencode

import attrs
from twisted.web.http_headers import Headers

from mirrord.oci.digest import Digest
from mirrord.oci.errors import Denied, ManifestUnknown, NameUnknown, RegistryError, UpstreamRefused
from mirrord.oci.manifests import MAX_MANIFEST_BYTES, OCI_INDEX
from mirrord.oci.names import RepositoryName
from mirrord.upstream.api import RegistryAPI, UpstreamRequest
from mirrord.upstream.deadline import Deadline
from mirrord.upstream.origin import WebOrigin, resolve
from mirrord.upstream.transport import UpstreamResponse

PAGE_SIZE = 1000
"""Tags a page; the most that distribution gives, others give fewer."""

MAX_PAGES = 1000
MAX_PAGE_BYTES = 1024 * 1024
"""Parsed at one go, in a thread or not: `json` holds the GIL, for 7 ms (tags) to 90 ms (the worst)."""

MAX_TAGS_BYTES = 32 * 1024 * 1024
"""Of all pages; some registries tell much about each tag."""

MAX_TAGS = 200_000
"""What they cost us: 24 MiB and, as most registries send them in order, 10 ms to sort."""

_NEXT = re.compile(r"<([^<>]*)>((?:\s*;[^,;]*)*)", re.ASCII)
_REL_NEXT = re.compile(r';\s*rel\s*=\s*"?next"?\s*(?:;|$)', re.ASCII | re.IGNORECASE)


@attrs.frozen
class ListRequests:
    """Asks for lists."""

    _api: RegistryAPI

    async def tags(self, repository: RepositoryName, deadline: Deadline) -> list[str]:
        """All tags, sorted."""
        tags: dict[str, None] = {}
        url = f"{self._api.home}/v2/{repository}/tags/list?n={PAGE_SIZE}"
        request = UpstreamRequest("GET", url, "tags", repository)
        async for _, body in self._pages(request, MAX_TAGS_BYTES, deadline, _tags_refusal):
            listed = _read(body).get("tags")
            if listed is not None and not isinstance(listed, list):
                raise UpstreamRefused("the upstream sent no list of tags", upstream_status=200)
            tags.update((tag, None) for tag in listed or () if isinstance(tag, str))
            if len(tags) > MAX_TAGS:
                raise UpstreamRefused(f"the upstream has more than {MAX_TAGS} tags here", upstream_status=200)
        return sorted(tags)

    async def referrers(
        self, repository: RepositoryName, digest: Digest, artifact_type: str | None, deadline: Deadline
    ) -> tuple[bytes, bool]:
        """One image index of all referrers; and whether each page was filtered by the artifact type.

        A single page stays as it was sent.
        """
        query = "" if artifact_type is None else "?" + urlencode({"artifactType": artifact_type})
        url = f"{self._api.home}/v2/{repository}/referrers/{digest}{query}"
        request = UpstreamRequest(
            "GET", url, "referrers", repository, lambda _: Headers({"Accept": [OCI_INDEX]}), is_followed=False
        )
        pages: list[dict[str, Any]] = []
        filtered: list[bool] = []
        async for answer, body in self._pages(request, MAX_MANIFEST_BYTES, deadline, _referrers_refusal):
            pages.append(_read_index(body))
            filtered.append("artifacttype" in (answer.header("OCI-Filters-Applied") or "").lower())
        return (body if len(pages) == 1 else _merge(pages)), all(filtered)

    async def _pages(
        self,
        request: UpstreamRequest,
        max_bytes: int,
        deadline: Deadline,
        refusal: Callable[[int], RegistryError],
    ) -> AsyncIterator[tuple[UpstreamResponse, bytes]]:
        """The pages in order, `max_bytes` in all."""
        seen = set[str]()
        url: str | None = request.url
        while url is not None:
            if url in seen or len(seen) == MAX_PAGES:
                raise UpstreamRefused("the upstream's list has no end", upstream_status=200)
            seen.add(url)
            answer = await self._api.ask(attrs.evolve(request, url=url), deadline)
            if answer.status != 200:
                await self._api.discard(answer, deadline)
                raise refusal(answer.status)
            body = await self._api.wire.bodies.read_all(
                answer.response, min(max_bytes, MAX_PAGE_BYTES), deadline
            )
            max_bytes -= len(body)
            yield answer, body
            url = self._next(answer)

    @staticmethod
    def _next(answer: UpstreamResponse) -> str | None:
        """The URL of the next page; None after the last."""
        for target, parameters in _NEXT.findall(", ".join(answer.headers("Link"))):
            if _REL_NEXT.search(parameters):
                url = resolve(answer.url, target)
                if WebOrigin.of(url) != answer.origin:
                    raise UpstreamRefused("the upstream's list goes on at another host", upstream_status=200)
                return url
        return None


def _tags_refusal(status: int) -> RegistryError:
    """What a status other than 200 means for a list of tags."""
    if status in {404, 410}:
        return NameUnknown("the upstream has no such repository")
    if status in {401, 403}:
        return Denied("the upstream does not let us read this")
    return UpstreamRefused(f"the upstream answered {status} for its tags", upstream_status=status)


def _referrers_refusal(status: int) -> RegistryError:
    """What a status other than 200 means for referrers; without them most say 404, and ghcr.io redirects."""
    if status in {401, 403}:
        return Denied("the upstream does not let us read this")
    if status in {400, 404, 405, 406, 410, 501} or 300 <= status < 400:
        return ManifestUnknown("the upstream has no referrers API")
    return UpstreamRefused(f"the upstream answered {status} for referrers", upstream_status=status)


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UpstreamRefused("the upstream sent no JSON object", upstream_status=200)
    return document


def _read_index(body: bytes) -> dict[str, Any]:
    document = _read(body)
    if not isinstance(document.get("manifests"), list):
        raise UpstreamRefused("the upstream sent no image index of referrers", upstream_status=200)
    return document


def _merge(pages: list[dict[str, Any]]) -> bytes:
    """One index of the manifests of all pages."""
    merged = {**pages[0], "manifests": [entry for page in pages for entry in page["manifests"]]}
    return json.dumps(merged, separators=(",", ":"), ensure_ascii=False).encode()
