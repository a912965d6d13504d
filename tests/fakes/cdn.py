"""The CDN of a fake registry: signed URLs on another origin, ranges, and no Authorization."""

import hmac
from hashlib import md5
from urllib.parse import parse_qs

from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.faults import Kind, NoRange
from tests.fakes.images import Piece
from tests.fakes.responses import PlainResponse, ScriptedResponse
from tests.fakes.state import RegistryState

_SECRET = b"signs the URLs of the CDN"


def sign(digest: str, expires_at: float) -> str:
    """Return the path and query under which the CDN serves a blob until `expires_at`."""
    expires = f"{expires_at:.3f}"
    return f"/blobs/{digest}?expires={expires}&signature={_signature(digest, expires)}"


def content_response(piece: Piece, request: Request, response: ScriptedResponse) -> PlainResponse:
    """Return a response with a blob, or with a single range of it."""
    etag = f'"{md5(piece.digest.encode()).hexdigest()}"'
    headers = {"Content-Type": "application/octet-stream", "ETag": etag, "Accept-Ranges": "bytes"}
    whole = PlainResponse(200, memoryview(piece.content), headers)
    span = _span(request.getHeader("Range") or "", piece.size)
    condition = request.getHeader("If-Range")
    if span is None or response.has(NoRange) or condition not in {None, etag}:
        return whole
    first, last = span
    if first > last:
        return PlainResponse(416, headers={**headers, "Content-Range": f"bytes */{piece.size}"})
    spoken = {"Content-Range": f"bytes {first}-{last}/{piece.size}"}
    return PlainResponse(206, whole.body[first : last + 1], headers | spoken, start=first)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """Return the first and last byte of a single range; None without one."""
    unit, _, text = header.partition("=")
    first, dash, last = text.partition("-")
    if unit != "bytes" or not dash or not (first + last).isdigit():
        return None
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last), size - 1) if last else size - 1


def _signature(digest: str, expires: str) -> str:
    return hmac.new(_SECRET, f"{digest} {expires}".encode(), "sha256").hexdigest()


class Cdn(Resource):
    """`GET /blobs/<digest>?expires=…&signature=…`."""

    isLeaf = True

    def __init__(self, state: RegistryState) -> None:
        super().__init__()
        self._state = state

    def render(self, request: Request) -> int:
        """Send a blob for a valid URL without any other credential."""
        response = self._state.begin(request, Kind.CONTENT)
        path, _, query = request.uri.decode("latin-1").partition("?")
        digest = path.rpartition("/")[2]
        response.rate = self._state.rates.of(digest)
        return response.send(self._respond(request, response, digest, query))

    def _respond(
        self, request: Request, response: ScriptedResponse, digest: str, query: str
    ) -> PlainResponse:
        if request.requestHeaders.hasHeader("Authorization"):
            return PlainResponse.error(400, "InvalidArgument", "Only one auth mechanism allowed")
        terms = parse_qs(query)
        expires, signature = terms.get("expires", ["0"])[0], terms.get("signature", [""])[0]
        is_signed = hmac.compare_digest(signature, _signature(digest, expires))
        if not is_signed or float(expires) < self._state.clock.seconds():
            return PlainResponse.error(403, "AccessDenied", "Request has expired")
        piece = self._state.content.blob(digest)
        return (
            PlainResponse.error(404, "NoSuchKey")
            if piece is None
            else content_response(piece, request, response)
        )
