"""Resources of twisted.web whose errors are JSON, and whose responses may be made by coroutines."""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.web.error import UnsupportedMethod
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET

from mirrord.http.request import READING, MirrorRequest
from mirrord.http.response import Header
from mirrord.oci.errors import NameUnknown, Unavailable


class UnknownResource(Resource):
    """A path that does not exist."""

    isLeaf = True

    def __init__(self, message: str = "unknown path") -> None:
        super().__init__()
        self._message = message

    def render_GET(self, request: MirrorRequest) -> bytes:
        """Raise the error."""
        raise NameUnknown(self._message)


class UnavailableResource(Resource):
    """A tree that cannot serve requests now."""

    isLeaf = True

    def __init__(self, message: str) -> None:
        super().__init__()
        self._message = message

    def render(self, request: MirrorRequest) -> bytes:
        """Raise the error."""
        raise Unavailable(self._message)


class JSONResource(Resource):
    """A resource below which unknown paths are JSON errors."""

    def getChild(self, path: bytes, request: MirrorRequest) -> IResource:
        """Return a path that does not exist."""
        return UnknownResource()


class AsyncResource(JSONResource):
    """A resource whose `render_GET` and the like are coroutines, one for each of `methods`.

    Every error becomes a JSON document with `error_headers`. A coroutine is run by hand up to its first
    wait, and most have none: a hit is answered before `render` returns, and makes no Deferred.
    """

    methods: ClassVar[tuple[bytes, ...]] = READING
    error_headers: ClassVar[tuple[Header, ...]] = ()

    def render(self, request: MirrorRequest) -> int:
        """Respond to a request, now or later."""
        running = self._respond(request)
        try:
            waited = running.send(None)
        except StopIteration:
            return NOT_DONE_YET
        self.suspended(request, Deferred.fromCoroutine(_resume(running, waited)))
        return NOT_DONE_YET

    def suspended(self, request: MirrorRequest, running: Deferred[None]) -> None:
        """Note that a response has to wait. What changes something continues when the client disconnects."""
        if request.method in READING:
            request.waiting = running

    async def respond(self, request: MirrorRequest) -> None:
        """Respond to a request; any error may be raised.

        Raises:
            UnsupportedMethod: The method is none of `methods`.
        """
        if request.method not in self.methods:
            raise UnsupportedMethod(self.methods)
        await getattr(self, f"render_{request.method.decode('ascii')}")(request)

    async def _respond(self, request: MirrorRequest) -> None:
        try:
            await self.respond(request)
        except CancelledError:
            # The client has disconnected, or the drain has waited for it long enough.
            request.abort()
        except Exception as error:  # noqa: BLE001 - the last resort, and logged
            request.fail(error, *self.error_headers)


def _resume(running: Coroutine[Any, Any, None], waited: Any) -> Generator[Any, Any, None]:
    """Run the rest of a coroutine that was started by hand and waits for `waited`."""
    step: Callable[[Any], Any]
    while True:
        try:
            result = yield waited
        except BaseException as error:  # noqa: BLE001 - all of it is the coroutine's
            step, result = running.throw, error
        else:
            step = running.send
        try:
            waited = step(result)
        except StopIteration:
            return
