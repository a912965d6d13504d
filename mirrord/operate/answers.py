"""What the operator's use cases answer, and what they tell on their way.

All of these are numbers, text and tuples of such, whose names are those of the admin listener's JSON.
Moments are wall clock, in seconds; bytes of what is held are those that it takes of the disk. What has an
`event` is one of a stream.
"""

from typing import ClassVar, Literal

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.entry import Entry, Kind
from mirrord.oci.names import Repository, Tag
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference


@attrs.frozen
class ListedTag:
    """A tag: what it names as far as is known, asked when, answered unasked until when."""

    tag: Tag
    digest: Digest
    checked_at: float
    fresh_until: float
    is_held: bool


@attrs.frozen
class ListedRepository:
    """A repository and what of it is on the disk; `name` is what people type."""

    upstream: str
    repository: Repository
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
    """What was taken out of a repository, and how much of the disk is free for it now."""

    removed: tuple[RemovedTag | RemovedContent, ...]
    bytes: int


@attrs.frozen
class Swept:
    """What a sweep took away, or would; `victims` are the first of what it would."""

    is_dry_run: bool
    entries: int
    bytes: int
    victims: tuple["Victim", ...] = ()


@attrs.frozen
class Victim:
    """An entry that a sweep would take away."""

    kind: Kind
    name: str
    bytes: int
    idle_seconds: float

    @classmethod
    def of(cls, entry: Entry) -> "Victim":
        """The entry as a victim."""
        return cls(entry.kind, entry.name, entry.size, entry.idle_seconds)


@attrs.frozen
class Resolved:
    """What a reference names."""

    event: ClassVar[str] = "resolved"

    reference: ImageReference
    digest: Digest
    upstream: str
    repository: Repository


@attrs.frozen
class GotManifest:
    """A manifest is held; `platform` is for what, where an index says that."""

    event: ClassVar[str] = "manifest"

    digest: Digest
    platform: Platform | None


@attrs.frozen
class GotBlob:
    """So much of a blob is here."""

    event: ClassVar[str] = "blob"

    digest: Digest
    size: int
    written: int
    is_held: bool


@attrs.frozen
class Pulled:
    """An image is held: its manifests and blobs, their bytes, and how many of these came just now."""

    event: ClassVar[str] = "done"

    manifests: int
    blobs: int
    bytes: int
    fetched_bytes: int
    seconds: float


@attrs.frozen
class Failed:
    """It ended early."""

    event: ClassVar[str] = "failed"

    message: str
    code: str


@attrs.frozen
class Verifying:
    """So much of what is at rest was hashed."""

    event: ClassVar[str] = "progress"

    bytes: int
    of_bytes: int
    entries: int
    of_entries: int


@attrs.frozen
class Corrupt:
    """Content was not what its digest names, and is set aside; these repositories may read it."""

    event: ClassVar[str] = "corrupt"

    digest: Digest
    kind: Kind
    repositories: tuple[str, ...]


@attrs.frozen
class Fetched:
    """What was corrupt is held again."""

    event: ClassVar[str] = "fetched"

    digest: Digest


@attrs.frozen
class Lost:
    """What was corrupt could not be fetched again."""

    event: ClassVar[str] = "lost"

    digest: Digest
    message: str


@attrs.frozen
class Verified:
    """All that is at rest was hashed."""

    event: ClassVar[str] = "done"

    entries: int
    bytes: int
    corrupt: int
    fetched: int
    seconds: float


@attrs.frozen
class TagState:
    """What is known of a tag; pending: seen, but its manifest is not here."""

    digest: Digest
    checked_at: float
    fresh_until: float
    state: Literal["fresh", "stale", "pending"]


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
class Explanation:
    """Where a reference comes from, what of it is here, who asked last, and why it would not be served."""

    reference: ImageReference
    upstream: str
    repository: Repository
    is_known: bool
    tag: TagState | None = None
    manifest: ManifestState | None = None
    blobs: tuple[BlobState, ...] = ()
    last_client: str | None = None
    last_asked_at: float | None = None
    why_not: str | None = None
