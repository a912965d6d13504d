"""The one tree of errors.

    RegistryError                       reaches the client as the spec's JSON document
    ├── NameInvalid NameUnknown TagInvalid DigestInvalid ManifestInvalid
    │   ManifestUnknown BlobUnknown Denied Unsupported RangeInvalid
    │   PaginationNumberInvalid SizeInvalid QueryTooLong Conflict
    │   BlobUploadUnknown BlobUploadInvalid UploadBusy ManifestBlobUnknown BodySilent
    │   Unauthorized TooManyRequests      definite: asking again changes nothing
    └── Unavailable                     ours: no room, a failing disk, shutting down
        └── UpstreamError               the upstream failed us, and may not next time
            ├── UpstreamUnreachable     no connection: DNS, TCP, TLS
            ├── UpstreamTimeout         it is silent
            ├── UpstreamRefused         5xx, or nonsense
            ├── UpstreamBusy            429
            ├── CircuitOpen             it failed a moment ago; nobody was asked
            ├── AccountRefused          it does not take our own configured account
            └── UpstreamCorrupt         bytes that are not what was asked for

What is under `UpstreamError` may be answered with stale content; what is definite may not
(reference/protocol.md, section 3.2). Codes and statuses: reference/protocol.md, section 1.2.
"""

from typing import ClassVar


class RegistryError(Exception):
    """A request that cannot be answered as asked.

    `message` is for people and holds no secret; `detail` is for programs; `retry_after_seconds`,
    where known, becomes a Retry-After header. `cache_status` is the Cache-Status of this answer
    (RFC 9211), noted on its way by whoever knows how it came about.
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
    """Not a repository name."""

    code = "NAME_INVALID"
    status = 400


class NameUnknown(RegistryError):
    """A repository, or a registry, that is not known here."""

    code = "NAME_UNKNOWN"
    status = 404


class TagInvalid(RegistryError):
    """Not a tag."""

    code = "TAG_INVALID"
    status = 400


class DigestInvalid(RegistryError):
    """Not a digest, or not of a known algorithm."""

    code = "DIGEST_INVALID"
    status = 400


class ManifestInvalid(RegistryError):
    """Not a manifest."""

    code = "MANIFEST_INVALID"
    status = 400


class SizeInvalid(RegistryError):
    """A body of a wrong or unwanted length."""

    code = "SIZE_INVALID"
    status = 400


class QueryTooLong(SizeInvalid):
    """More is asked in one request than we read (RFC 9110, section 15.5.15)."""

    status = 414


class PaginationNumberInvalid(RegistryError):
    """A page size that is no number, or too large."""

    code = "PAGINATION_NUMBER_INVALID"
    status = 400


class RangeInvalid(RegistryError):
    """No byte of the content is in the range."""

    code = "RANGE_INVALID"
    status = 416


class ManifestUnknown(RegistryError):
    """The upstream says that there is no such manifest."""

    code = "MANIFEST_UNKNOWN"
    status = 404


class BlobUnknown(RegistryError):
    """The upstream says that there is no such blob."""

    code = "BLOB_UNKNOWN"
    status = 404


class Denied(RegistryError):
    """The upstream, or our configuration, does not let us read this."""

    code = "DENIED"
    status = 403


class BlobUploadUnknown(RegistryError):
    """No such upload in this repository: it never was, is over, or was left alone for too long."""

    code = "BLOB_UPLOAD_UNKNOWN"
    status = 404


class BlobUploadInvalid(RegistryError):
    """What was said of an upload makes no sense."""

    code = "BLOB_UPLOAD_INVALID"
    status = 400


class ManifestBlobUnknown(RegistryError):
    """A manifest names content that its repository does not have."""

    code = "MANIFEST_BLOB_UNKNOWN"
    status = 400


class BodySilent(RegistryError):
    """The rest of a request does not come, or too slowly (RFC 9110, section 15.5.9)."""

    status = 408


class Unauthorized(RegistryError):
    """Whoever asks has to say who they are; `challenge` says how, and becomes WWW-Authenticate."""

    code = "UNAUTHORIZED"
    status = 401

    def __init__(self, message: str, *, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class TooManyRequests(RegistryError):
    """Whoever asks has to wait first."""

    code = "TOOMANYREQUESTS"
    status = 429


class Unsupported(RegistryError):
    """A method that a mirror does not offer."""

    code = "UNSUPPORTED"
    status = 405


class Conflict(RegistryError):
    """Another of what may run only once runs already."""

    code = "CONFLICT"
    status = 409


class UploadBusy(RegistryError):
    """Another request writes to this upload just now."""

    code = "BLOB_UPLOAD_INVALID"
    status = 409


class Unavailable(RegistryError):
    """We cannot answer now: no room, a failing disk, shutting down."""

    code = "UNAVAILABLE"
    status = 503


class UpstreamError(Unavailable):
    """The upstream failed; `upstream_status` is what it answered, if it answered at all."""

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
    """No connection could be made, or it broke."""


class UpstreamTimeout(UpstreamError):
    """The upstream is silent."""

    status = 504


class UpstreamRefused(UpstreamError):
    """The upstream answered 5xx, or something that is no answer to the question."""


class UpstreamBusy(UpstreamError):
    """The upstream answered 429: a pull limit, or too many requests."""

    code = "TOOMANYREQUESTS"
    status = 429


class CircuitOpen(UpstreamError):
    """The upstream failed a moment ago, so nobody was asked."""

    status = 503


class AccountRefused(UpstreamError):
    """The upstream does not take the account that the operator configured for it."""


class UpstreamCorrupt(UpstreamError):
    """The upstream sent bytes that are not what was asked for."""
