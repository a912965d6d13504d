"""Uploads: `/v2/<repository>/blobs/uploads/[<session>]`, where blobs are pushed.

Locations are relative: what we are called, behind whichever proxy, the client knows best.
"""

from typing import ClassVar

import attrs

from mirrord.access.rules import Action
from mirrord.access.scopes import Scope
from mirrord.api.ports import Sources
from mirrord.api.resource import RegistryRequest, unsupported
from mirrord.hosted.mounts import Mounter
from mirrord.hosted.uploads import ChunkOutOfOrder, ChunkRange, Uploader, UploadProgress
from mirrord.http.body import NoBody
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, RegistryError
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import RepositoryRoute, Target, UploadRoute


@attrs.frozen
class UploadResource:
    """Begins uploads, takes what is sent to them, tells how far they are, ends them."""

    methods: ClassVar[tuple[bytes, ...]] = (b"POST", b"PATCH", b"PUT", b"GET", b"HEAD", b"DELETE")

    _uploader: Uploader
    _mounter: Mounter
    _sources: Sources
    _default: str

    async def change(self, asked: RegistryRequest) -> Response:
        """What the method says."""
        route = asked.target.route
        assert isinstance(route, UploadRoute)  # noqa: S101 - the root dispatches by type
        try:
            return await self._change(asked, route)
        except ChunkOutOfOrder as error:
            return Response.of_error(error, API_VERSION, *_how_far(route.repository, error.progress))

    async def _change(self, asked: RegistryRequest, route: UploadRoute) -> Response:
        repository, body = route.repository, asked.request.body or NoBody()
        match asked.request.method, route.session:
            case b"POST", None:
                return await self._begin(asked, route)
            case b"PATCH", str(session):
                progress = await self._uploader.append(repository, session, body, _span(asked))
                return _told(202, repository, progress)
            case b"PUT", str(session):
                if route.digest is None:
                    raise DigestInvalid("the digest of the blob is missing: PUT …?digest=")
                await self._uploader.finish(repository, session, route.digest, body, _span(asked))
                return created(repository, route.digest)
            case ((b"GET" | b"HEAD"), str(session)):
                return _told(204, repository, self._uploader.progress(repository, session))
            case b"DELETE", str(session):
                await self._uploader.cancel(repository, session)
                return Response(204, (API_VERSION,), None)
        return unsupported(self.methods[1:] if route.session else self.methods[:1])

    async def _begin(self, asked: RegistryRequest, route: UploadRoute) -> Response:
        repository = route.repository
        if route.mount is not None and await self._mount(asked, route, route.mount):
            return created(repository, route.mount)
        if route.digest is not None:
            await self._uploader.push(repository, route.digest, asked.request.body or NoBody())
            return created(repository, route.digest)
        return _told(202, repository, self._uploader.begin(repository))

    async def _mount(self, asked: RegistryRequest, route: UploadRoute, digest: Digest) -> bool:
        """Whether the blob is mounted; from a repository that is none of ours it cannot be.

        Raises:
            Unauthorized: With a token for both repositories it could be.
        """
        origin = None
        if route.origin is not None:
            named = Target(attrs.evolve(route, repository=route.origin), asked.target.prefix)
            try:
                origin = self._sources.locate(named, self._default)
            except RegistryError:
                return False
            if asked.caller.is_allowed(Action.PULL, origin):
                pushing = Scope(route.repository, frozenset({Action.PULL, Action.PUSH}))
                asked.caller.require(Action.PULL, origin, route.origin, pushing)

        def may_read(source: RepositoryKey) -> bool:
            return asked.may_read(source, route.origin or source.repository)

        return await self._mounter.mount(route.repository, digest, origin, may_read)


def scopes_of_mount(route: RepositoryRoute) -> tuple[Scope, ...]:
    """What a token for a mount has to cover besides its own repository: the one that is mounted from.

    Many clients ask for that by themselves; those that go by the challenge alone would else be left to
    send what is here already.
    """
    if not isinstance(route, UploadRoute) or route.mount is None or route.origin is None:
        return ()
    return (Scope(route.origin, frozenset({Action.PULL})),)


def created(repository: RepositoryName, digest: Digest) -> Response:
    """That there is a blob now."""
    location = f"/v2/{repository}/blobs/{digest}".encode("ascii")
    told = (b"Docker-Content-Digest", str(digest).encode("ascii"))
    return Response.whole(201, b"", (b"Location", location), told, API_VERSION)


def _span(asked: RegistryRequest) -> ChunkRange | None:
    text = asked.header(b"Content-Range")
    return None if text is None else ChunkRange.parse(text)


def _told(status: int, repository: RepositoryName, progress: UploadProgress) -> Response:
    """Where the upload goes on; a 204 has no Content-Length (RFC 9110, section 8.6)."""
    return Response(status, (*_how_far(repository, progress), API_VERSION), None if status == 204 else 0)


def _how_far(repository: RepositoryName, progress: UploadProgress) -> tuple[Header, ...]:
    """An upload without a byte is told as 0-0: docker takes no range that ends before it begins."""
    location = f"/v2/{repository}/blobs/uploads/{progress.session}".encode("ascii")
    return (
        (b"Location", location),
        (b"Range", b"0-%d" % max(0, progress.offset - 1)),
        (b"Docker-Upload-UUID", progress.session.encode("ascii")),
    )
