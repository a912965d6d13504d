"""Manifests: `/v2/<repository>/manifests/<reference>`.

The Accept header is ignored: a stored manifest is what its digest names, and the specification allows a
registry to respond with it (reference/protocol.md, section 1.4).
"""

from typing import ClassVar

import attrs
from twisted.logger import Logger

from mirrord.api.conditionals import IMMUTABLE, etag, matches
from mirrord.api.registry_request import RegistryRequest
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.observe.events import Event
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.errors import Unsupported
from mirrord.oci.names import Reference
from mirrord.oci.routes import ManifestRoute
from mirrord.repository import PushedManifestResult, RepositoryWriter


@attrs.frozen
class ManifestHandler:
    """Responds with manifests, stores those that are pushed, and deletes them and their tags."""

    methods: ClassVar[tuple[bytes, ...]] = (b"GET", b"HEAD", b"PUT", b"DELETE")

    _log: ClassVar[Logger] = Logger()

    async def read(self, request: RegistryRequest, route: ManifestRoute) -> Response:
        """Return a manifest; 304 to a client that has it, without requesting its bytes from an upstream."""
        if_none_match = request.header(b"If-None-Match")
        if request.is_head or if_none_match is not None:
            found = await request.repository.head_manifest(route.reference)
            descriptor = found.descriptor
            if matches(if_none_match, descriptor.digest):
                headers = _validators(route.reference, descriptor.digest, found.cache)
                return Response(304, headers, None, cache=found.cache)
            if request.is_head:
                headers = _headers(descriptor.media_type, route.reference, descriptor.digest, found.cache)
                return Response(200, headers, descriptor.size, cache=found.cache)
        result = await request.repository.get_manifest(route.reference)
        manifest = result.manifest
        headers = _headers(manifest.media_type, route.reference, manifest.digest, result.cache)
        return Response(200, headers, len(manifest.body), body=manifest.body, cache=result.cache)

    async def write(
        self, request: RegistryRequest, route: ManifestRoute, writer: RepositoryWriter
    ) -> Response:
        """Push or delete."""
        match request.method:
            case b"PUT":
                content_type = request.header(b"Content-Type")
                pushed = await writer.push_manifest(route.reference, route.tags, content_type, request.body)
                self._report(request, route, "pushed", Event.PUSHED)
                return _created(route, pushed)
            case b"DELETE":
                await writer.delete_manifest(route.reference)
                self._report(request, route, "deleted", Event.DELETED)
                return Response.whole(202, b"", API_VERSION)
        raise Unsupported("this path does not support that method", allow=self.methods)

    def _report(self, request: RegistryRequest, route: ManifestRoute, verb: str, event: Event) -> None:
        self._log.info(
            "{what} {repository}{mark}{reference} for {client}",
            what=verb,
            repository=str(route.repository),
            mark="@" if isinstance(route.reference, Digest) else ":",
            reference=str(route.reference),
            client=request.http.client_address,
            user=request.caller.user,
            event=event,
        )


def _created(route: ManifestRoute, pushed: PushedManifestResult) -> Response:
    """Return that the manifest exists now, and that its subject was understood (OCI-Subject)."""
    digest = str(pushed.digest)
    headers: list[Header] = [
        (b"Location", f"/v2/{route.repository}/manifests/{digest}".encode("ascii")),
        (b"Docker-Content-Digest", digest.encode("ascii")),
        API_VERSION,
    ]
    if pushed.subject is not None:
        headers.append((b"OCI-Subject", str(pushed.subject).encode("ascii")))
    headers += [(b"OCI-Tag", str(tag).encode("ascii")) for tag in route.tags]
    return Response.whole(201, b"", *headers)


def _headers(media_type: str, reference: Reference, digest: Digest, cache: CacheResult) -> tuple[Header, ...]:
    content_type = (b"Content-Type", media_type.encode("latin-1", "replace"))
    return (content_type, *_validators(reference, digest, cache))


def _validators(reference: Reference, digest: Digest, cache: CacheResult) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        IMMUTABLE if isinstance(reference, Digest) else _cache_control(cache),
    )


def _cache_control(cache: CacheResult) -> Header:
    """Return how long a cache behind us may keep what a tag names.

    max-age counts from when the upstream was asked, as Age does: what is left of the TTL, plus the age.
    """
    if cache.ttl_seconds is None or cache.ttl_seconds <= 0:
        return (b"Cache-Control", b"no-cache")
    return (b"Cache-Control", b"max-age=%d" % (cache.ttl_seconds + (cache.age_seconds or 0)))
