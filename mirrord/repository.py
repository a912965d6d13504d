"""What the use cases of pulling answer with."""

from typing import Protocol

import attrs

from mirrord.oci.cache_status import CacheResult
from mirrord.oci.manifests import Descriptor, Manifest


@attrs.frozen
class ManifestResult:
    """A verified manifest, for GET."""

    manifest: Manifest
    outcome: CacheResult


@attrs.frozen
class DescriptorResult:
    """What a reference names, for HEAD."""

    descriptor: Descriptor
    outcome: CacheResult


@attrs.frozen
class BlobSizeResult:
    """That there is a blob, for HEAD; `size` is None where the upstream does not tell."""

    size: int | None
    outcome: CacheResult


@attrs.frozen
class TagListResult:
    """All tags of a repository, sorted."""

    tags: tuple[str, ...]
    outcome: CacheResult


@attrs.frozen
class ReferrersResult:
    """An image index of referrers, as bytes; `is_filtered` where the upstream applied the artifact type."""

    body: bytes
    is_filtered: bool
    outcome: CacheResult


class RangeBody(Protocol):
    """A range of a blob straight from the upstream. Read it to the end or abort it; abort it in the end."""

    @property
    def offset(self) -> int:
        """Where in the blob its first byte stands."""
        ...

    async def read(self) -> bytes:
        """The next bytes; b"" after the last.

        Raises:
            UpstreamError: It broke off.
        """
        ...

    def abort(self) -> None:
        """Close the connection; may be called more than once."""


class BlobReader(Protocol):
    """A blob that can be read, committed or still growing. Close it when its last reader is done.

    Offsets count from the blob's first byte. `fd` is this object's own descriptor: read it with
    offsets (pread, sendfile), never beyond `readable`.
    """

    @property
    def size(self) -> int:
        """The whole blob's bytes."""
        ...

    @property
    def outcome(self) -> CacheResult:
        """How it came to be readable."""
        ...

    @property
    def body(self) -> bytes | None:
        """All of it, where it is committed, small and in memory."""
        ...

    @property
    def fd(self) -> int:
        """The descriptor to read from."""
        ...

    @property
    def readable(self) -> int:
        """How many bytes may leave now: those written, the last one only when all is verified."""
        ...

    async def grown(self, beyond: int) -> int:
        """Wait until `readable` is greater than `beyond`, and return it. Cancelling harms nobody else.

        Raises:
            UpstreamError: The download failed; what was sent so far must end short.
        """
        ...

    async def pass_through(self, first: int, stop: int) -> RangeBody | None:
        """The bytes from `first` to before `stop` straight from the upstream, unverified and never stored.

        None where following the file is right: unless they are far ahead of the download.
        """
        ...

    def close(self) -> None:
        """Let go; may be called more than once."""
