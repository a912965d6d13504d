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
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import Reference
from mirrord.oci.routes import ManifestRoute
from mirrord.repository import PushedManifestResult, RepositoryWriter


@attrs.frozen
class ManifestHandler:
    """Responds with manifests, stores those that are pushed, and deletes them and their tags."""

    methods: ClassVar[tuple[bytes, ...]] = (b"GET", b"HEAD", b"PUT", b"DELETE")

    _log = Logger()

    async def read(self, request: RegistryRequest, route: ManifestRoute) -> Response:
        """Return a manifest; 304 to a client that has it, without requesting its bytes from an upstream."""
        if_none_match = request.header(b"If-None-Match")
        if request.is_head or if_none_match is not None:
            found = await request.repository.head_manifest(route.reference)
            if matches(if_none_match, found.descriptor.digest):
                headers = _validators(route.reference, found.descriptor.digest, found.cache)
                return Response(304, headers, None, cache=found.cache)
            if request.is_head:
                headers = _headers(route.reference, found.descriptor, found.cache)
                return Response(200, headers, found.descriptor.size, cache=found.cache)
        result = await request.repository.get_manifest(route.reference)
        headers, body = (
            _headers(route.reference, result.manifest.descriptor, result.cache),
            result.manifest.body,
        )
        return Response(200, headers, len(body), body=body, cache=result.cache)

    async def write(
        self, request: RegistryRequest, route: ManifestRoute, writer: RepositoryWriter
    ) -> Response:
        """Push or delete a manifest, or delete a tag."""
        match request.method:
            case b"PUT":
                pushed = await writer.push_manifest(
                    route.reference,
                    tags=route.tags,
                    content_type=request.header(b"Content-Type"),
                    body=request.body,
                )
                self._report(request, route, Event.PUSHED)
                return _created(route, pushed)
            case b"DELETE":
                await writer.delete_manifest(route.reference)
                self._report(request, route, Event.DELETED)
                return Response.whole(202, b"", API_VERSION)
        raise Unsupported("this path does not support that method", allow=self.methods)

    def _report(self, request: RegistryRequest, route: ManifestRoute, event: Event) -> None:
        self._log.info(
            "{what} {repository}{mark}{reference} by {client}",
            what="pushed" if event is Event.PUSHED else "deleted",
            repository=str(route.repository),
            mark="@" if isinstance(route.reference, Digest) else ":",
            reference=str(route.reference),
            client=request.http.client_address,
            user=request.caller.user,
            event=event,
        )


def _created(route: ManifestRoute, pushed: PushedManifestResult) -> Response:
    """Return the response to a push; OCI-Subject confirms that the subject was recognized."""
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


def _headers(reference: Reference, descriptor: Descriptor, cache: CacheResult) -> tuple[Header, ...]:
    content_type = (b"Content-Type", descriptor.media_type.encode("latin-1", "replace"))
    return (content_type, *_validators(reference, descriptor.digest, cache))


def _validators(reference: Reference, digest: Digest, cache: CacheResult) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        IMMUTABLE if isinstance(reference, Digest) else _cache_control(cache),
    )


def _cache_control(cache: CacheResult) -> Header:
    """Return how long another cache between us and the client may keep what a tag names.

    max-age counts from the request to the upstream, as Age does: the rest of the TTL, plus the age.
    """
    if cache.ttl_seconds is None or cache.ttl_seconds <= 0:
        return (b"Cache-Control", b"no-cache")
    return (b"Cache-Control", b"max-age=%d" % (cache.ttl_seconds + (cache.age_seconds or 0)))
