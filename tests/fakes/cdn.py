"""The CDN of a fake registry: signed URLs on another origin, ranges, and no Authorization."""

import hmac
from hashlib import md5
from urllib.parse import parse_qs

from twisted.web.http import Request
from twisted.web.resource import Resource

from tests.fakes.exchange import Answer, Exchange
from tests.fakes.faults import Kind, NoRange
from tests.fakes.images import Piece
from tests.fakes.scene import Scene

_SECRET = b"nobody else can sign this"


def sign(digest: str, expires_at: float) -> str:
    """The path and query under which the CDN serves a blob until then."""
    expires = f"{expires_at:.3f}"
    return f"/blobs/{digest}?expires={expires}&signature={_signature(digest, expires)}"


def content_answer(piece: Piece, request: Request, exchange: Exchange) -> Answer:
    """A blob's bytes, or the single range of them that is asked for."""
    etag = f'"{md5(piece.digest.encode()).hexdigest()}"'
    headers = {"Content-Type": "application/octet-stream", "ETag": etag, "Accept-Ranges": "bytes"}
    whole = Answer(200, memoryview(piece.content), headers)
    span = _span(request.getHeader("Range") or "", piece.size)
    condition = request.getHeader("If-Range")
    if span is None or exchange.has(NoRange) or condition not in {None, etag}:
        return whole
    first, last = span
    if first > last:
        return Answer(416, headers={**headers, "Content-Range": f"bytes */{piece.size}"})
    spoken = {"Content-Range": f"bytes {first}-{last}/{piece.size}"}
    return Answer(206, whole.body[first : last + 1], headers | spoken, start=first)


def _span(header: str, size: int) -> tuple[int, int] | None:
    """The first and last byte of a single range; None where there is none."""
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

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene

    def render(self, request: Request) -> int:
        """Send a blob's bytes to whoever has a good URL and no other credential."""
        exchange = self._scene.begin(request, Kind.CONTENT)
        path, _, query = request.uri.decode("latin-1").partition("?")
        digest = path.rpartition("/")[2]
        exchange.rate = self._scene.pace.of(digest)
        return exchange.answer(self._answer(request, exchange, digest, query))

    def _answer(self, request: Request, exchange: Exchange, digest: str, query: str) -> Answer:
        if request.requestHeaders.hasHeader("Authorization"):
            return Answer.error(400, "InvalidArgument", "Only one auth mechanism allowed")
        terms = parse_qs(query)
        expires, signature = terms.get("expires", ["0"])[0], terms.get("signature", [""])[0]
        is_signed = hmac.compare_digest(signature, _signature(digest, expires))
        if not is_signed or float(expires) < self._scene.clock.seconds():
            return Answer.error(403, "AccessDenied", "Request has expired")
        piece = self._scene.holdings.blob(digest)
        return Answer.error(404, "NoSuchKey") if piece is None else content_answer(piece, request, exchange)
