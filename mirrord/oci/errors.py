"""The tree of errors.

    RegistryError                       sent to the client as the specification's JSON document
    ├── NameInvalid NameUnknown TagInvalid DigestInvalid ManifestInvalid
    │   ManifestUnknown BlobUnknown Denied Unsupported RangeInvalid
    │   PaginationNumberInvalid SizeInvalid QueryTooLong Conflict
    │   BlobUploadUnknown BlobUploadInvalid UploadBusy ManifestBlobUnknown RequestTimeout
    │   Unauthorized TooManyRequests      definite: a retry changes nothing
    └── Unavailable                     ours: no room, a failing disk, shutting down
        ├── TooManyDownloads            other downloads have all slots
        └── UpstreamError               the upstream failed; a retry may succeed
            ├── UpstreamUnreachable     no connection: DNS, TCP, TLS
            ├── UpstreamTimeout         no response in time
            ├── UpstreamRefused         5xx, or an invalid response
            ├── UpstreamBusy            429
            ├── CircuitOpen             it failed a moment ago; no request was sent
            ├── AccountRefused          it rejects our configured account
            └── UpstreamCorrupt         content that does not match its digest or size

Stale content may be served on an `UpstreamError`, never on a definite error (reference/protocol.md,
section 3.2). Codes and statuses: reference/protocol.md, section 1.2.
"""

from typing import ClassVar


class RegistryError(Exception):
    """An error response.

    `message` is for people and contains no secret; `detail` is for programs; `retry_after_seconds`, where
    known, becomes a Retry-After header. `cache_status` is the Cache-Status of the response (RFC 9211), set
    while the error propagates.
    """

    code: ClassVar[str] = "UNKNOWN"
    status: ClassVar[int] = 500

    def __init__(
        self, message: str, *, detail: object = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.retry_after_seconds = retry_after_seconds
        self.cache_status: str | None = None


class NameInvalid(RegistryError):
    """An invalid repository name."""

    code = "NAME_INVALID"
    status = 400


class NameUnknown(RegistryError):
    """An unknown repository or registry."""

    code = "NAME_UNKNOWN"
    status = 404


class TagInvalid(RegistryError):
    """An invalid tag."""

    code = "TAG_INVALID"
    status = 400


class DigestInvalid(RegistryError):
    """An invalid digest, or one of an unsupported algorithm."""

    code = "DIGEST_INVALID"
    status = 400


class ManifestInvalid(RegistryError):
    """An invalid manifest."""

    code = "MANIFEST_INVALID"
    status = 400


class SizeInvalid(RegistryError):
    """A body of a wrong or unacceptable length."""

    code = "SIZE_INVALID"
    status = 400


class ContentTooLarge(SizeInvalid):
    """Content that is larger than its limit (RFC 9110, section 15.5.14)."""

    status = 413


class QueryTooLong(SizeInvalid):
    """A query that is longer than we parse (RFC 9110, section 15.5.15)."""

    status = 414


class PaginationNumberInvalid(RegistryError):
    """A page size that is not a number, or too large."""

    code = "PAGINATION_NUMBER_INVALID"
    status = 400


class RangeInvalid(RegistryError):
    """No byte of the content is in the range."""

    code = "RANGE_INVALID"
    status = 416


class ManifestUnknown(RegistryError):
    """The repository has no such manifest."""

    code = "MANIFEST_UNKNOWN"
    status = 404


class BlobUnknown(RegistryError):
    """The repository has no such blob."""

    code = "BLOB_UNKNOWN"
    status = 404


class Denied(RegistryError):
    """The upstream or our configuration denies access."""

    code = "DENIED"
    status = 403


class BlobUploadUnknown(RegistryError):
    """The repository has no such upload: it never existed, is complete, or has expired."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404


class BlobUploadInvalid(RegistryError):
    """An invalid request to an upload."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400


class ManifestBlobUnknown(RegistryError):
    """A manifest references content that its repository does not have."""

    code = "MANIFEST_BLOB_UNKNOWN"
    status = 400


class RequestTimeout(RegistryError):
    """The rest of a request does not arrive, or too slowly (RFC 9110, section 15.5.9)."""

    status = 408


class Unauthorized(RegistryError):
    """The client must authenticate; `challenge` becomes the WWW-Authenticate header."""

    code = "UNAUTHORIZED"
    status = 401

    def __init__(self, message: str, *, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class TooManyRequests(RegistryError):
    """The client must wait before it retries."""

    code = "TOOMANYREQUESTS"
    status = 429


class Unsupported(RegistryError):
    """A method that is not supported here; `allow` lists those that are."""

    code = "UNSUPPORTED"
    status = 405

    def __init__(self, message: str, *, allow: tuple[bytes, ...] = ()) -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(RegistryError):
    """An operation that is running already."""

    code = "CONFLICT"
    status = 409


class UploadBusy(RegistryError):
    """Another request is writing to this upload."""

    code = "BLOB_UPLOAD_INVALID"
    status = 409


class Unavailable(RegistryError):
    """A failure of ours: no room, a failing disk, shutting down."""

    code = "UNAVAILABLE"
    status = 503


class TooManyDownloads(Unavailable):
    """Other downloads, which matter more or came first, have all slots; a retry may succeed."""


class UpstreamError(Unavailable):
    """The upstream failed; `upstream_status` is that of its response, if there was one."""

    status = 502

    def __init__(
        self,
        message: str,
        *,
        detail: object = None,
        retry_after_seconds: float | None = None,
        upstream_status: int | None = None,
    ) -> None:
        super().__init__(message, detail=detail, retry_after_seconds=retry_after_seconds)
        self.upstream_status = upstream_status


class UpstreamUnreachable(UpstreamError):
    """No connection could be established, or it was lost."""


class UpstreamTimeout(UpstreamError):
    """The upstream did not respond in time."""

    status = 504


class UpstreamRefused(UpstreamError):
    """The upstream responded with 5xx, or with an invalid response."""


class UpstreamBusy(UpstreamError):
    """The upstream responded with 429: a pull limit, or too many requests."""

    code = "TOOMANYREQUESTS"
    status = 429


class CircuitOpen(UpstreamError):
    """The upstream failed a moment ago, so no request was sent."""

    status = 503


class AccountRefused(UpstreamError):
    """The upstream rejects the account that is configured for it."""


class UpstreamCorrupt(UpstreamError):
    """The upstream sent content that does not match its digest or size."""
