"""Uploads: `/v2/<repository>/blobs/uploads/[<session>]`, where blobs are pushed.

Locations are relative: the client knows best under which name, behind whichever proxy, it reaches us.
"""

from typing import ClassVar

import attrs

from mirrord.access.rules import Action
from mirrord.access.scopes import Scope
from mirrord.api.registry_request import RegistryRequest
from mirrord.http.response import API_VERSION, Header, Response
from mirrord.oci.digest import Digest
from mirrord.oci.errors import DigestInvalid, RegistryError, Unsupported
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.oci.routes import ChunkRange, Target, UploadRoute
from mirrord.repository import ChunkOutOfOrder, RepositoryWriter, UploadProgress
from mirrord.routing import Router


@attrs.frozen
class UploadHandler:
    """Begins uploads, appends to them, reports their progress, finishes and cancels them."""

    methods: ClassVar[tuple[bytes, ...]] = (b"POST", b"PATCH", b"PUT", b"GET", b"HEAD", b"DELETE")

    _router: Router
    _default: str

    async def respond(
        self, request: RegistryRequest, route: UploadRoute, writer: RepositoryWriter
    ) -> Response:
        """Respond to a request of any method for an upload, or to begin one."""
        try:
            return await self._respond(request, route, writer)
        except ChunkOutOfOrder as error:
            return Response.of_error(error, API_VERSION, *_progress(route.repository, error.progress))

    async def _respond(
        self, request: RegistryRequest, route: UploadRoute, writer: RepositoryWriter
    ) -> Response:
        name = route.repository
        match request.method, route.session:
            case b"POST", None:
                return await self._begin(request, route, writer)
            case b"PATCH", str(session):
                progress = await writer.append_upload(session, request.body, _chunk(request))
                return _in_progress(202, name, progress)
            case b"PUT", str(session):
                if route.digest is None:
                    raise DigestInvalid("the digest of the blob is missing: PUT …?digest=")
                await writer.finish_upload(session, route.digest, body=request.body, chunk=_chunk(request))
                return _created(name, route.digest)
            case ((b"GET" | b"HEAD"), str(session)):
                return _in_progress(204, name, writer.upload_progress(session))
            case b"DELETE", str(session):
                await writer.cancel_upload(session)
                return Response(204, (API_VERSION,), None)
        methods = self.methods[1:] if route.session else self.methods[:1]
        raise Unsupported("this path does not support that method", allow=methods)

    async def _begin(
        self, request: RegistryRequest, route: UploadRoute, writer: RepositoryWriter
    ) -> Response:
        name = route.repository
        if route.mount is not None and await self._mount(request, route, digest=route.mount, writer=writer):
            return _created(name, route.mount)
        if route.digest is not None:
            await writer.push_blob(route.digest, request.body, request.client)
            return _created(name, route.digest)
        return _in_progress(202, name, await writer.begin_upload(request.client))

    async def _mount(
        self, request: RegistryRequest, route: UploadRoute, *, digest: Digest, writer: RepositoryWriter
    ) -> bool:
        """Mount a blob; return success. A blob of an unknown repository cannot be mounted.

        Raises:
            Unauthorized: A token for both repositories would allow it.
        """
        origin = None
        if route.origin is not None:
            named = Target(attrs.evolve(route, repository=route.origin), request.target.prefix)
            try:
                origin = self._router.locate(named, self._default)
            except RegistryError:
                return False
            if request.caller.is_allowed(Action.PULL, origin.key):
                pushing = Scope(route.repository, frozenset({Action.PULL, Action.PUSH}))
                request.caller.require(Action.PULL, origin.key, route.origin, pushing)

        def may_read(key: RepositoryKey) -> bool:
            return request.may_read(key, route.origin or key.repository)

        return await writer.mount_blob(digest, origin, may_read)


def scopes_of_mount(route: UploadRoute) -> tuple[Scope, ...]:
    """Return the scopes that a token for a mount needs besides its own repository's: that of the origin.

    Many clients request it by themselves; those that only follow the challenge would otherwise have to upload
    a blob that is stored already.
    """
    if route.mount is None or route.origin is None:
        return ()
    return (Scope(route.origin, frozenset({Action.PULL})),)


def _created(name: RepositoryName, digest: Digest) -> Response:
    """Return the response to a finished upload or a mount."""
    location = f"/v2/{name}/blobs/{digest}".encode("ascii")
    content_digest = (b"Docker-Content-Digest", str(digest).encode("ascii"))
    return Response.whole(201, b"", (b"Location", location), content_digest, API_VERSION)


def _chunk(request: RegistryRequest) -> ChunkRange | None:
    text = request.header(b"Content-Range")
    return None if text is None else ChunkRange.parse(text)


def _in_progress(status: int, name: RepositoryName, progress: UploadProgress) -> Response:
    """Return the response of an unfinished upload; a 204 has no Content-Length (RFC 9110, section 8.6)."""
    return Response(status, (*_progress(name, progress), API_VERSION), None if status == 204 else 0)


def _progress(name: RepositoryName, progress: UploadProgress) -> tuple[Header, ...]:
    """Return the headers of an upload; an empty one is 0-0, since docker rejects a range without bytes."""
    location = f"/v2/{name}/blobs/uploads/{progress.session}".encode("ascii")
    return (
        (b"Location", location),
        (b"Range", b"0-%d" % max(0, progress.offset - 1)),
        (b"Docker-Upload-UUID", progress.session.encode("ascii")),
    )
