"""What the operator's use cases answer, and what they tell on their way.

All of these are numbers, text and tuples of such, whose names are those of the admin listener's JSON.
Moments are wall clock, in seconds; bytes of what is held are those that it takes of the disk, of what is
hosted those that were pushed. What has an `event` is one of a stream.
"""

from typing import ClassVar, Literal

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference


@attrs.frozen
class ListedTag:
    """A tag: what it names as far as is known, asked when, answered unasked until when.

    A hosted one was pushed when it was `checked_at`, and no upstream is ever asked: `fresh_until` is None.
    """

    tag: Tag
    digest: Digest
    checked_at: float
    fresh_until: float | None
    is_held: bool


@attrs.frozen
class ListedRepository:
    """A repository and what of it is on the disk; `name` is what people type.

    Of a hosted one the upstream is HOSTED, and `last_used` is when something was last pushed to it.
    """

    upstream: str
    repository: RepositoryName
    name: str
    tags: tuple[ListedTag, ...]
    manifests: int
    blobs: int
    bytes: int
    last_used: float


@attrs.frozen
class RemovedTag:
    """A tag that is no longer known."""

    reference: ImageReference


@attrs.frozen
class RemovedContent:
    """Content that the repository may no longer read."""

    digest: Digest


@attrs.frozen
class Removal:
    """What was taken out of a repository, and how much of the disk is free for it now.

    Of a hosted one nothing is yet, for a sweep does that: `bytes` is None.
    """

    removed: tuple[RemovedTag | RemovedContent, ...]
    bytes: int | None


@attrs.frozen
class ReferenceResolved:
    """What a reference names."""

    event: ClassVar[str] = "resolved"

    reference: ImageReference
    digest: Digest
    upstream: str
    repository: RepositoryName


@attrs.frozen
class ManifestPulled:
    """A manifest is held; `platform` is for what, where an index says that."""

    event: ClassVar[str] = "manifest"

    digest: Digest
    platform: Platform | None


@attrs.frozen
class BlobProgress:
    """So much of a blob is here."""

    event: ClassVar[str] = "blob"

    digest: Digest
    size: int
    written: int
    is_held: bool


@attrs.frozen
class PullDone:
    """An image is held: its manifests and blobs, their bytes, and how many of these came just now."""

    event: ClassVar[str] = "done"

    manifests: int
    blobs: int
    bytes: int
    fetched_bytes: int
    seconds: float


@attrs.frozen
class CommandFailed:
    """It ended early."""

    event: ClassVar[str] = "failed"

    message: str
    code: str


@attrs.frozen
class VerificationProgress:
    """So much of what is at rest was hashed."""

    event: ClassVar[str] = "progress"

    bytes: int
    of_bytes: int
    entries: int
    of_entries: int


@attrs.frozen
class CorruptFound:
    """Content was not what its digest names, and is set aside; these repositories may read it."""

    event: ClassVar[str] = "corrupt"

    digest: Digest
    kind: ContentKind
    repositories: tuple[str, ...]


@attrs.frozen
class MissingFound:
    """Content that these hosted repositories should hold is not on the disk."""

    event: ClassVar[str] = "missing"

    digest: Digest
    kind: ContentKind
    repositories: tuple[str, ...]


@attrs.frozen
class ContentFetched:
    """What was corrupt or missing is held again."""

    event: ClassVar[str] = "fetched"

    digest: Digest


@attrs.frozen
class ContentLost:
    """What was corrupt or missing could not be fetched again."""

    event: ClassVar[str] = "lost"

    digest: Digest
    message: str


@attrs.frozen
class VerificationDone:
    """All that is at rest was hashed."""

    event: ClassVar[str] = "done"

    entries: int
    bytes: int
    corrupt: int
    fetched: int
    seconds: float
    missing: int = 0


@attrs.frozen
class TagState:
    """What is known of a tag; pending: seen, but its manifest is not here; hosted: as in ListedTag."""

    digest: Digest
    checked_at: float
    fresh_until: float | None
    state: Literal["fresh", "stale", "pending", "hosted"]


@attrs.frozen
class ManifestState:
    """A manifest as its repository knows it."""

    digest: Digest
    media_type: str
    size: int
    is_held: bool


@attrs.frozen
class BlobState:
    """Where a blob's bytes are."""

    digest: Digest
    size: int
    state: Literal["held", "downloading", "partial", "absent"]
    written: int


@attrs.frozen
class Permissions:
    """Who may do what in a repository, in the words of `[[access.rules]]`."""

    pull: tuple[str, ...]
    push: tuple[str, ...]
    delete: tuple[str, ...]


@attrs.frozen
class Explanation:
    """Where a reference comes from, what of it is here, who asked last, and why it would not be served."""

    reference: ImageReference
    upstream: str
    repository: RepositoryName
    is_known: bool
    tag: TagState | None = None
    manifest: ManifestState | None = None
    blobs: tuple[BlobState, ...] = ()
    last_client: str | None = None
    last_asked_at: float | None = None
    why_not: str | None = None
    may: Permissions | None = None
