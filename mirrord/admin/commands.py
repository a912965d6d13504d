"""Commands: what the operator's `mirrord` asks of the daemon.

    GET    /repositories?pattern=GLOB        one repository a line
    DELETE /repositories?reference=REF       take out a repository, a tag or a digest
    POST   /sweep?dry_run=1                  sweep, or say what that would do
    POST   /pull?reference=REF&platform=P    one event a line; `all` for every platform
    POST   /verify                           one event a line, until the client leaves
    GET    /why?reference=REF                what is known of a reference

Lines are JSON (NDJSON), written as they come and no faster than they are taken. What goes wrong before
the first line is an error document; after it, a last line whose event is `failed`.
"""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qsl

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mirrord.admin.origin import refuse_strangers
from mirrord.admin.ports import Operations
from mirrord.admin.results import CommandFailed
from mirrord.admin.sweep import sweep_document
from mirrord.http.body_writer import BodyWriter
from mirrord.http.request import MirrorRequest
from mirrord.http.response import Header, Response
from mirrord.oci.errors import NameInvalid, RegistryError, Unavailable, Unsupported
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference

METHODS = {
    b"/repositories": (b"GET", b"DELETE"),
    b"/sweep": (b"POST",),
    b"/pull": (b"POST",),
    b"/verify": (b"POST",),
    b"/why": (b"GET",),
}

_NO_STORE: Header = (b"Cache-Control", b"no-store")
_LINES: Header = (b"Content-Type", b"application/x-ndjson")
_CHUNKED: Header = (b"Transfer-Encoding", b"chunked")
_EVERY_PLATFORM = "all"


@attrs.define(eq=False)
class Commands:
    """Carries out commands; `operations` are those of the configuration in effect.

    `own_platform` is for what images are pulled unless the command says otherwise.
    """

    _operations: Callable[[], Operations]
    _own_platform: Platform
    _running: set[Deferred[None]] = attrs.field(factory=set, init=False)
    _log = Logger()

    def start(self) -> None:
        """Nothing: commands come by themselves."""

    def stop(self) -> None:
        """End the commands that run: their store is about to be closed."""
        for running in list(self._running):
            running.cancel()

    def respond(self, request: MirrorRequest) -> None:
        """Carry out a command whose path is one of METHODS; ends when the client leaves."""
        running = Deferred.fromCoroutine(self._answer(request))
        request.waiting = running
        self._running.add(running)
        running.addBoth(lambda _: self._running.discard(running))

    async def _answer(self, request: MirrorRequest) -> None:
        path, _, query = request.uri.partition(b"?")
        try:
            methods = METHODS[path]
            refuse_strangers(request)
            if request.method not in methods:
                raise Unsupported(f"here {b' and '.join(methods).decode()} are answered")
            await self._carry_out(request, path, _parameters(query))
        except CancelledError:
            request.break_off()
        except Exception as error:  # noqa: BLE001 - the last resort, and logged
            self._fail(request, error)

    async def _carry_out(self, request: MirrorRequest, path: bytes, parameters: dict[str, str]) -> None:
        operations = self._operations()
        match request.method, path:
            case b"GET", b"/repositories":
                await _stream(request, operations.lister.list(parameters.get("pattern", "*")))
            case b"DELETE", _:
                _reply(request, await operations.remover.remove(_reference(parameters, operations)))
            case _, b"/sweep":
                is_dry_run = parameters.get("dry_run", "0") not in {"", "0"}
                collector = operations.collector
                sweep = await (collector.preview() if is_dry_run else collector.sweep())
                request.respond(Response.of_json(sweep_document(sweep), _NO_STORE))
            case _, b"/pull":
                platform = self._platform(parameters.get("platform", ""))
                await _stream(request, operations.puller.pull(_reference(parameters, operations), platform))
            case _, b"/verify":
                await _stream(request, operations.verifier.verify())
            case _:
                _reply(request, await operations.explainer.explain(_reference(parameters, operations)))

    def _platform(self, text: str) -> Platform | None:
        if text == _EVERY_PLATFORM:
            return None
        return Platform.parse(text) if text else self._own_platform

    def _fail(self, request: MirrorRequest, error: Exception) -> None:
        if request.channel is None:
            return
        if not isinstance(error, RegistryError):
            self._log.failure("A command failed: {path}", Failure(error), path=repr(request.uri[:64]))
        if request.startedWriting:
            request.break_off()
        else:
            request.respond(Response.of_error(_public(error), _NO_STORE))


async def _stream(request: MirrorRequest, events: AsyncGenerator[Any, None]) -> None:
    """Write a line for each event; a failure that can be told becomes the last one."""
    async with aclosing(events):
        event = await anext(events, None)
        is_chunked = request.clientproto == b"HTTP/1.1"
        headers = (_LINES, _NO_STORE, _CHUNKED) if is_chunked else (_LINES, _NO_STORE)
        request.begin(Response(200, headers, None))
        request.chunked = int(is_chunked)
        with BodyWriter(request, _uncounted) as outlet:
            while event is not None:
                outlet.write(json.dumps(document(event), separators=(",", ":")).encode() + b"\n")
                await outlet.has_room()
                try:
                    event = await anext(events, None)
                except (RegistryError, OSError) as error:
                    said = _public(error)
                    event = CommandFailed(said.message, said.code)
        request.finish()


def _reply(request: MirrorRequest, value: Any) -> None:
    request.respond(Response.of_json(document(value), _NO_STORE))


def document(value: Any) -> dict[str, Any]:
    """A frozen value as JSON takes it: names as they are written, the event first where there is one."""
    event = getattr(type(value), "event", None)
    fields = {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return fields if event is None else {"event": event, **fields}


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return [_plain(item) for item in value]
    return str(value) if "__str__" in vars(type(value)) else document(value)


def _public(error: Exception) -> RegistryError:
    """What is told of an error: of our own ones nothing but whose they are."""
    if isinstance(error, RegistryError):
        return error
    if isinstance(error, OSError):
        return Unavailable("the mirror's disk does not work")
    return RegistryError("the mirror failed; its log says how")


def _parameters(query: bytes) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=8, errors="strict")
        )
    except ValueError:
        raise NameInvalid("the query cannot be read") from None


def _reference(parameters: dict[str, str], operations: Operations) -> ImageReference:
    return ImageReference.parse(parameters.get("reference", ""), operations.is_hosted)


def _uncounted(_count: int) -> None:
    """What operators are told is not what clients are sent."""
