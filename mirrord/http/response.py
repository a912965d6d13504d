"""Response: a status, headers and a body, ready to be sent."""

import json
import math
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import attrs

from mirrord.oci.cache_status import CacheResult
from mirrord.oci.errors import RegistryError, Unauthorized, Unsupported

Header = tuple[bytes, bytes]

API_VERSION: Header = (b"Docker-Distribution-Api-Version", b"registry/2.0")
"""By this old tools recognize a registry (distribution-spec, "Legacy Docker support HTTP headers")."""

CONTENT_SECURITY_POLICY = b"default-src 'none'; frame-ancestors 'none'"
"""The policy of every response that has none of its own: what a registry serves is not for a browser to run.

Anyone who may push, here or to an upstream, decides the bytes of a manifest and its media type. Opened in a
browser, under the origin of this mirror, such a document could otherwise be a page with scripts.
"""

NO_SNIFFING: Header = (b"X-Content-Type-Options", b"nosniff")

_JSON: Header = (b"Content-Type", b"application/json")
_REASONS = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_LINE_ENDS = b"\r\n\0"
_STATUS_AND_POLICY = b"\r\n".join([b"%b %d %b", b"%b: %b" % NO_SNIFFING, b"Content-Security-Policy: %b"])
"""The first lines of every response, formatted at once: this is on the path of every hit."""


@attrs.frozen
class Response:
    """The status, headers and body of a response, without the headers that the connection adds.

    `length` is the Content-Length, None if there is none (304, or a HEAD of unknown size). A body that does
    not fit into memory is written by `stream`, which is called with the request after the head was sent.
    `cache` is how the response came about, and becomes the Cache-Status and Age headers (RFC 9211). `policy`
    is what a browser may do with it.
    """

    status: int
    headers: tuple[Header, ...]
    length: int | None
    body: bytes = attrs.field(default=b"", repr=False, kw_only=True)
    stream: Callable[[Any], Awaitable[None]] | None = attrs.field(default=None, kw_only=True)
    cache: CacheResult | None = attrs.field(default=None, kw_only=True)
    policy: bytes = attrs.field(default=CONTENT_SECURITY_POLICY, repr=False, kw_only=True)

    @classmethod
    def whole(cls, status: int, body: bytes, *headers: Header) -> "Response":
        """Return a response with its complete body."""
        return cls(status, headers, len(body), body=body)

    @classmethod
    def of_json(cls, document: object, *headers: Header, status: int = 200) -> "Response":
        """Return a JSON document."""
        return cls.whole(status, json.dumps(document, separators=(",", ":")).encode(), _JSON, *headers)

    @classmethod
    def of_error(cls, error: RegistryError, *headers: Header, status: int | None = None) -> "Response":
        """Return the error document (distribution-spec, "Error Codes").

        `status` overrides that of the error, where HTTP's are more specific: 413, 414, 431.
        """
        entry = {"code": error.code, "message": error.message, "detail": error.detail}
        if isinstance(error, Unauthorized):
            headers += ((b"WWW-Authenticate", error.challenge.encode("latin-1", "replace")),)
        if isinstance(error, Unsupported) and error.allow:
            headers += ((b"Allow", b", ".join(error.allow)),)
        if error.retry_after_seconds is not None:
            headers += ((b"Retry-After", b"%d" % max(1, math.ceil(error.retry_after_seconds))),)
        if error.cache_status is not None:
            headers += ((b"Cache-Status", error.cache_status.encode("latin-1", "replace")),)
        document = {"errors": [entry]}
        return cls.of_json(document, *headers, status=status or error.status)

    def with_headers(self, *more: Header) -> "Response":
        """Return this response with more headers; on the path of every hit, so without `attrs.evolve`."""
        return Response(
            self.status,
            self.headers + more,
            self.length,
            body=self.body,
            stream=self.stream,
            cache=self.cache,
            policy=self.policy,
        )

    def head(self, version: bytes, *more: Header) -> bytes:
        """Return the status line and the headers, as they are sent.

        A value may come from an upstream, such as a media type: what could end the line is dropped, so that a
        value cannot inject headers (CWE-113).
        """
        lines = [_STATUS_AND_POLICY % (version, self.status, _REASONS[self.status], self.policy)]
        for name, value in self.headers + more:
            lines.append(b"%b: %b" % (name, value.translate(None, _LINE_ENDS)))
        if self.cache is not None:
            lines.append(b"Cache-Status: %b" % str(self.cache).encode("ascii"))
            if self.cache.age_seconds is not None:
                lines.append(b"Age: %d" % max(0, self.cache.age_seconds))
        if self.length is not None:
            lines.append(b"Content-Length: %d" % self.length)
        lines.append(b"\r\n")
        return b"\r\n".join(lines)
