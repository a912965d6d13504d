"""Manifests: `/v2/<repository>/manifests/<reference>`.

The Accept header is not looked at: what is stored is what its digest names, and the
specification lets a registry answer with it (reference/protocol.md, section 1.4).
"""

from typing import ClassVar

import attrs
from twisted.logger import Logger

from mirrord.api.conditionals import IMMUTABLE, etag, is_held
from mirrord.api.ports import Manifests
from mirrord.api.resource import RegistryRequest, RepositoryResponse, unsupported
from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.manifests import ManifestPusher
from mirrord.hosted.pushed_manifest import PushedManifest
from mirrord.http.body import NoBody
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.observe.events import Event
from mirrord.oci.cache_status import CacheResult
from mirrord.oci.digest import Digest
from mirrord.oci.names import Reference
from mirrord.oci.routes import ManifestRoute


@attrs.frozen
class ManifestResource:
    """Answers with manifests, or with what they are."""

    kind: ClassVar[str] = "manifest"

    _manifests: Manifests

    async def reply(self, asked: RegistryRequest) -> RepositoryResponse:
        """A manifest; 304 for who holds it, without asking the upstream for its bytes."""
        route = asked.target.route
        assert isinstance(route, ManifestRoute)  # noqa: S101 - the root dispatches by type
        held = asked.header(b"If-None-Match")
        if asked.is_head or held is not None:
            seen = await self._manifests.head(asked.source, route.reference)
            what = seen.descriptor
            if is_held(held, what.digest):
                return RepositoryResponse(
                    seen.outcome, _validators(route.reference, what.digest, seen.outcome), 304
                )
            if asked.is_head:
                headers = _headers(what.media_type, route.reference, what.digest, seen.outcome)
                return RepositoryResponse(seen.outcome, headers, length=what.size)
        pulled = await self._manifests.get(asked.source, route.reference)
        manifest = pulled.manifest
        headers = _headers(manifest.media_type, route.reference, manifest.digest, pulled.outcome)
        return RepositoryResponse.of_bytes(pulled.outcome, manifest.body, *headers)


@attrs.frozen
class ManifestChange:
    """Takes manifests that are pushed, and deletes them and their tags."""

    methods: ClassVar[tuple[bytes, ...]] = (b"GET", b"HEAD", b"PUT", b"DELETE")

    _pusher: ManifestPusher
    _deleter: HostedDeletion
    _log: ClassVar[Logger] = Logger()

    async def change(self, asked: RegistryRequest) -> Response:
        """Push or delete."""
        route = asked.target.route
        assert isinstance(route, ManifestRoute)  # noqa: S101 - the root dispatches by type
        match asked.request.method:
            case b"PUT":
                return await self._push(asked, route)
            case b"DELETE":
                await self._deleter.delete_manifest(route.repository, route.reference)
                self._tell(asked, route, "deleted", Event.DELETED)
                return Response.whole(202, b"", API_VERSION)
        return unsupported(self.methods)

    async def _push(self, asked: RegistryRequest, route: ManifestRoute) -> Response:
        body = asked.request.body or NoBody()
        content_type = asked.header(b"Content-Type")
        pushed = await self._pusher.push(route.repository, route.reference, route.tags, content_type, body)
        self._tell(asked, route, "pushed", Event.PUSHED)
        return _created(route, pushed)

    def _tell(self, asked: RegistryRequest, route: ManifestRoute, what: str, event: Event) -> None:
        mark = "@" if isinstance(route.reference, Digest) else ":"
        self._log.info(
            "{what} {repository}{mark}{reference} for {client}",
            what=what,
            repository=str(route.repository),
            mark=mark,
            reference=str(route.reference),
            client=asked.request.client_address,
            user=asked.caller.user,
            event=event,
        )


def _created(route: ManifestRoute, pushed: PushedManifest) -> Response:
    """That there is a manifest now; that its subject was seen, so that no client keeps a list of its own."""
    digest = str(pushed.manifest.digest)
    headers: list[Header] = [
        (b"Location", f"/v2/{route.repository}/manifests/{digest}".encode("ascii")),
        (b"Docker-Content-Digest", digest.encode("ascii")),
        API_VERSION,
    ]
    if pushed.subject is not None:
        headers.append((b"OCI-Subject", str(pushed.subject).encode("ascii")))
    headers += [(b"OCI-Tag", str(tag).encode("ascii")) for tag in route.tags]
    return Response.whole(201, b"", *headers)


def _headers(
    media_type: str, reference: Reference, digest: Digest, outcome: CacheResult
) -> tuple[Header, ...]:
    content_type = (b"Content-Type", media_type.encode("latin-1", "replace"))
    return (content_type, *_validators(reference, digest, outcome))


def _validators(reference: Reference, digest: Digest, outcome: CacheResult) -> tuple[Header, ...]:
    return (
        (b"Docker-Content-Digest", str(digest).encode("ascii")),
        (b"ETag", etag(digest).encode("ascii")),
        IMMUTABLE if isinstance(reference, Digest) else _freshness(outcome),
    )


def _freshness(outcome: CacheResult) -> Header:
    """For how long a cache after us may keep what a tag names.

    It counts from when the upstream was asked, as Age does: what is left of the ttl, and the age.
    """
    if outcome.ttl_seconds is None or outcome.ttl_seconds <= 0:
        return (b"Cache-Control", b"no-cache")
    return (b"Cache-Control", b"max-age=%d" % (outcome.ttl_seconds + (outcome.age_seconds or 0)))
