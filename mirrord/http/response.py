"""Answer: a status, headers and a body that are ready to leave."""

import json
import math
from http import HTTPStatus

import attrs

from mirrord.oci.errors import RegistryError, Unauthorized

Header = tuple[bytes, bytes]

API_VERSION: Header = (b"Docker-Distribution-Api-Version", b"registry/2.0")
"""What old tools take as the sign of a registry (distribution-spec, "Legacy Docker support HTTP headers")."""

_JSON: Header = (b"Content-Type", b"application/json")
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_LINE_ENDS = b"\r\n\0"


@attrs.frozen
class Response:
    """What a request is answered with, but for what the connection adds.

    `length` is the Content-Length; None where there is none to tell (304, or a HEAD of unknown
    size). `body` is shorter than that where it goes its own way (api/body_streams.py), or goes not at
    all, which is HEAD.
    """

    status: int
    headers: tuple[Header, ...]
    length: int | None
    body: bytes = attrs.field(default=b"", repr=False)

    @classmethod
    def whole(cls, status: int, body: bytes, *headers: Header) -> "Response":
        """An answer of which all is here."""
        return cls(status, headers, len(body), body)

    @classmethod
    def of_json(cls, document: object, *headers: Header, status: int = 200) -> "Response":
        """A JSON document."""
        return cls.whole(status, json.dumps(document, separators=(",", ":")).encode(), _JSON, *headers)

    @classmethod
    def of_error(cls, error: RegistryError, *headers: Header, status: int | None = None) -> "Response":
        """The spec's error document (distribution-spec, "Error Codes").

        `status` is for what HTTP tells more finely than the spec's codes do: 413, 414, 431.
        """
        complaint = {"code": error.code, "message": error.message, "detail": error.detail}
        if isinstance(error, Unauthorized):
            headers += ((b"WWW-Authenticate", error.challenge.encode("latin-1", "replace")),)
        if error.retry_after_seconds is not None:
            headers += ((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after_seconds))),)
        if error.cache_status is not None:
            headers += ((b"Cache-Status", error.cache_status.encode("latin-1", "replace")),)
        document = {"errors": [complaint]}
        return cls.of_json(document, *headers, status=status or error.status)

    def head(self, version: bytes, *more: Header) -> bytes:
        """The status line and the headers, as they go over the wire.

        A media type or a name that an upstream chose may stand in a header: what could end the line
        is dropped, so that nobody else writes our headers (CWE-113).
        """
        lines = [b"%b %d %b" % (version, self.status, _REASONS[self.status])]
        for name, value in self.headers + more:
            lines.append(b"%b: %b" % (name, value.translate(None, _LINE_ENDS)))
        if self.length is not None:
            lines.append(b"Content-Length: %d" % self.length)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)
