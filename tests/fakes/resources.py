"""A resource for every path, which hands its requests to a function."""

from collections.abc import Callable

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from mirrord.http.request import MirrorRequest


class CallbackResource(Resource):
    """A whole tree in one leaf: `callback` responds to a request, now or later."""

    isLeaf = True

    def __init__(self, callback: Callable[[MirrorRequest], object]) -> None:
        super().__init__()
        self._callback = callback

    def render(self, request: MirrorRequest) -> int:
        """Call the function."""
        self._callback(request)
        return NOT_DONE_YET
