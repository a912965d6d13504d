"""Errors: the codes and statuses of the specification, and which of them allow stale content."""

from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci import errors
from mirrord.oci.errors import RegistryError, Unavailable, UpstreamError

# reference/protocol.md, sections 1.2 and 1.10.
TABLE = {
    "RegistryError": ("UNKNOWN", 500),
    "NameInvalid": ("NAME_INVALID", 400),
    "NameUnknown": ("NAME_UNKNOWN", 404),
    "TagInvalid": ("TAG_INVALID", 400),
    "DigestInvalid": ("DIGEST_INVALID", 400),
    "ManifestInvalid": ("MANIFEST_INVALID", 400),
    "SizeInvalid": ("SIZE_INVALID", 400),
    "QueryTooLong": ("SIZE_INVALID", 414),
    "ContentTooLarge": ("SIZE_INVALID", 413),
    "PaginationNumberInvalid": ("PAGINATION_NUMBER_INVALID", 400),
    "RangeInvalid": ("RANGE_INVALID", 416),
    "ManifestUnknown": ("MANIFEST_UNKNOWN", 404),
    "BlobUnknown": ("BLOB_UNKNOWN", 404),
    "Denied": ("DENIED", 403),
    "BlobUploadUnknown": ("BLOB_UPLOAD_UNKNOWN", 404),
    "BlobUploadInvalid": ("BLOB_UPLOAD_INVALID", 400),
    "ManifestBlobUnknown": ("MANIFEST_BLOB_UNKNOWN", 400),
    "RequestTimeout": ("UNKNOWN", 408),
    "Unauthorized": ("UNAUTHORIZED", 401),
    "TooManyRequests": ("TOOMANYREQUESTS", 429),
    "Unsupported": ("UNSUPPORTED", 405),
    "Conflict": ("CONFLICT", 409),
    "UploadBusy": ("BLOB_UPLOAD_INVALID", 409),
    "Unavailable": ("UNAVAILABLE", 503),
    "TooManyDownloads": ("UNAVAILABLE", 503),
    "UpstreamError": ("UNAVAILABLE", 502),
    "UpstreamUnreachable": ("UNAVAILABLE", 502),
    "UpstreamTimeout": ("UNAVAILABLE", 504),
    "UpstreamRefused": ("UNAVAILABLE", 502),
    "UpstreamBusy": ("TOOMANYREQUESTS", 429),
    "CircuitOpen": ("UNAVAILABLE", 503),
    "AccountRefused": ("UNAVAILABLE", 502),
    "UpstreamCorrupt": ("UNAVAILABLE", 502),
}

ALL = {
    name: each
    for name, each in vars(errors).items()
    if isinstance(each, type) and issubclass(each, RegistryError)
}


class ErrorTests(SynchronousTestCase):
    def test_table(self) -> None:
        """Every error has the code and status that clients expect."""
        self.assertEqual({name: (each.code, each.status) for name, each in ALL.items()}, TABLE)

    def test_transient_is_never_404(self) -> None:
        """A failure of the upstream, or of ours, never becomes 404."""
        for each in ALL.values():
            if issubclass(each, Unavailable):
                self.assertIn(each.status, {429, 502, 503, 504})

    def test_what_it_carries(self) -> None:
        """An error has a message, a detail, a Retry-After, and the status of the upstream's response."""
        error = UpstreamError("busy", detail={"a": 1}, retry_after_seconds=5.0, upstream_status=429)
        self.assertEqual(str(error), "busy")
        self.assertEqual(
            (error.message, error.detail, error.retry_after_seconds, error.upstream_status),
            ("busy", {"a": 1}, 5.0, 429),
        )
