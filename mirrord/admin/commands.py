"""The operator's commands: the resources that `mirrord` requests from the daemon.

    GET    /repositories?pattern=GLOB        list repositories, one per line
    DELETE /repositories?reference=REF       remove a repository, a tag or a digest
    POST   /sweep?dry_run=1                  run garbage collection, or preview it
    POST   /pull?reference=REF&platform=P    pull an image, one event per line; `all` for every platform
    POST   /verify                           verify stored content, one event per line
    GET    /why?reference=REF                explain a reference

Lines are JSON (NDJSON), written as they come and no faster than the client reads. An error before the
first line is an error document; an error after it is a last line whose event is `failed`.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mirrord.admin.operations import Operations
from mirrord.admin.origin import require_unix_socket
from mirrord.admin.results import CommandFailed, ListedRepository, document, encode, removal_pieces
from mirrord.admin.sweep import sweep_document
from mirrord.http.request import BodyWriter, MirrorRequest, public_error
from mirrord.http.resource import AsyncResource
from mirrord.http.response import Header, Response
from mirrord.observe.events import Event
from mirrord.oci.errors import NameInvalid, RegistryError
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference

_NO_STORE: Header = (b"Cache-Control", b"no-store")
_JSON: Header = (b"Content-Type", b"application/json")
_LINES: Header = (b"Content-Type", b"application/x-ndjson")
_CHUNKED: Header = (b"Transfer-Encoding", b"chunked")
_EVERY_PLATFORM = "all"
_MAX_LOGGED = 512


@attrs.define(eq=False, kw_only=True)
class Commands:
    """The running commands; `operations` returns those of the configuration in effect.

    Images are pulled for `own_platform` unless the command names another. `socket` returns the path of the
    Unix socket that accepts commands.
    """

    operations: Callable[[], Operations]
    own_platform: Platform
    socket: Callable[[], Path]
    running: set[Deferred[None]] = attrs.field(factory=set, init=False)

    def resources(self) -> dict[bytes, "CommandResource"]:
        """Return the resource of each command, by its path."""
        return {
            b"repositories": RepositoriesResource(self),
            b"sweep": SweepResource(self),
            b"pull": PullResource(self),
            b"verify": VerifyResource(self),
            b"why": WhyResource(self),
        }

    def stop(self) -> None:
        """Cancel the running commands, before their store is closed."""
        for running in list(self.running):
            running.cancel()


class CommandResource(AsyncResource):
    """A command: accepted at a Unix socket only, logged, and ended when its client disconnects."""

    error_headers = (_NO_STORE,)
    _log = Logger()

    def __init__(self, commands: Commands) -> None:
        super().__init__()
        self.commands = commands

    def suspended(self, request: MirrorRequest, running: Deferred[None]) -> None:
        """Cancel the command when the client disconnects or the daemon stops."""
        request.waiting = running
        self.commands.running.add(running)
        running.addBoth(lambda _: self.commands.running.discard(running))

    async def respond(self, request: MirrorRequest) -> None:
        """Run the command."""
        peer = require_unix_socket(request, self.commands.socket())
        self._log.info(
            "command of user {uid}, process {pid}: {command}",
            uid=peer.uid,
            pid=peer.pid,
            command=f"{request.method.decode('latin-1')} {request.uri[:_MAX_LOGGED].decode('latin-1')}",
            event=Event.COMMANDED,
        )
        await super().respond(request)


class RepositoriesResource(CommandResource):
    """`/repositories`: list them, or remove what a reference names."""

    methods = (b"GET", b"DELETE")

    async def render_GET(self, request: MirrorRequest) -> None:
        """List repositories."""
        pattern = _parameters(request).get("pattern", "*")
        await _stream(request, self.commands.operations().lister.list(pattern))

    async def render_DELETE(self, request: MirrorRequest) -> None:
        """Remove a repository, a tag or a digest."""
        operations = self.commands.operations()
        removal = await operations.remover.remove(_reference(_parameters(request), operations))
        with _body(request, _JSON) as writer:
            for piece in removal_pieces(removal):
                writer.write(piece.encode())
                await writer.has_room()


class SweepResource(CommandResource):
    """`/sweep`: garbage collection."""

    methods = (b"POST",)

    async def render_POST(self, request: MirrorRequest) -> None:
        """Run garbage collection now, or preview it."""
        is_dry_run = _parameters(request).get("dry_run", "0") not in {"", "0"}
        collector = self.commands.operations().collector
        sweep = await (collector.preview() if is_dry_run else collector.sweep())
        request.respond(Response.of_json(sweep_document(sweep), _NO_STORE))


class PullResource(CommandResource):
    """`/pull`: pull an image ahead of its clients."""

    methods = (b"POST",)

    async def render_POST(self, request: MirrorRequest) -> None:
        """Pull an image, for every platform or for one."""
        operations, parameters = self.commands.operations(), _parameters(request)
        platform = self._platform(parameters.get("platform", ""))
        await _stream(request, operations.puller.pull(_reference(parameters, operations), platform))

    def _platform(self, text: str) -> Platform | None:
        if text == _EVERY_PLATFORM:
            return None
        return Platform.parse(text) if text else self.commands.own_platform


class VerifyResource(CommandResource):
    """`/verify`: check everything that is stored against its digests."""

    methods = (b"POST",)

    async def render_POST(self, request: MirrorRequest) -> None:
        """Verify stored content."""
        _parameters(request)  # rejects an invalid query
        await _stream(request, self.commands.operations().verifier.verify())


class WhyResource(CommandResource):
    """`/why`: explain a reference."""

    methods = (b"GET",)

    async def render_GET(self, request: MirrorRequest) -> None:
        """Explain what a reference names, and why a client would not get it."""
        operations = self.commands.operations()
        _respond(request, await operations.explainer.explain(_reference(_parameters(request), operations)))


async def _stream(request: MirrorRequest, events: AsyncGenerator[Any, None]) -> None:
    """Write a line for each event; an error becomes the last one."""
    async with aclosing(events):
        event = await anext(events, None)
        with _body(request, _LINES) as writer:
            while event is not None:
                for piece in _line(event):
                    writer.write(piece.encode())
                    await writer.has_room()
                try:
                    event = await anext(events, None)
                except (RegistryError, OSError) as error:
                    public = public_error(error)
                    event = CommandFailed(public.message, public.code)


@contextmanager
def _body(request: MirrorRequest, content_type: Header) -> Iterator[BodyWriter]:
    """Begin a response of unknown length, and finish it unless writing its body fails."""
    is_chunked = request.clientproto == b"HTTP/1.1"
    headers = (content_type, _NO_STORE, _CHUNKED) if is_chunked else (content_type, _NO_STORE)
    request.begin(Response(200, headers, None))
    request.chunked = int(is_chunked)
    # Bytes sent to operators do not count as bytes sent to clients.
    with BodyWriter(request, lambda _: None) as writer:
        yield writer
    request.finish()


def _line(event: Any) -> Iterator[str]:
    """Yield the line of an event, in pieces that do not take long to encode."""
    if isinstance(event, ListedRepository):
        yield from event.json()
        yield "\n"
    else:
        yield encode(document(event)) + "\n"


def _respond(request: MirrorRequest, value: Any) -> None:
    request.respond(Response.of_json(document(value), _NO_STORE))


def _parameters(request: MirrorRequest) -> dict[str, str]:
    try:
        query = request.query.decode("ascii")
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=8, errors="strict"))
    except ValueError:
        raise NameInvalid("invalid query") from None


def _reference(parameters: dict[str, str], operations: Operations) -> ImageReference:
    return ImageReference.parse(parameters.get("reference", ""), operations.is_hosted)
