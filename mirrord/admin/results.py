"""The results of the operator's use cases, and the events that they report while they run.

Their attributes are the keys of the admin listener's JSON. Times are wall clock, in seconds. Sizes are those
on the disk; for hosted content, those that were pushed. Classes with an `event` are items of a stream.
"""

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import Any, ClassVar, Self

import attrs

from mirrord.oci.content import ContentKind
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference
from mirrord.repository import BlobState, ManifestState, Removal, StoredTag, TagState

REMOVED_PER_PIECE = 256
"""The removed tags and digests that are encoded at a time, about 3 ms on the reactor."""


@attrs.frozen
class ListedTag:
    """A tag, its digest, when that was last confirmed, and until when it is served without revalidation.

    A hosted tag was pushed at `checked_at`; its `fresh_until` is None.
    """

    tag: Tag
    digest: Digest
    checked_at: float
    fresh_until: float | None
    is_held: bool

    @classmethod
    def of(cls, tag: StoredTag) -> Self:
        """Return a stored tag as it is listed."""
        return cls(
            tag=tag.tag,
            digest=tag.digest,
            checked_at=tag.checked_at,
            fresh_until=tag.fresh_until,
            is_held=tag.is_stored,
        )


@attrs.frozen(kw_only=True)
class ListedRepository:
    """A repository and its content on the disk; `name` is the short one, as in `docker pull`.

    The upstream of a hosted one is HOSTED, and its `last_used` is the time of the last push. `tags` are pages
    of at least one ListedTag each, as JSON: of 100,000 objects, Python's garbage collector and the encoder
    would stall the reactor for half a second.
    """

    upstream: str
    repository: RepositoryName
    name: str
    tags: tuple[str, ...]
    manifests: int
    blobs: int
    bytes: int
    last_used: float

    def json(self) -> Iterator[str]:
        """Yield the repository as JSON, in pieces of a page of tags at most."""
        before, after = encode(document(attrs.evolve(self, tags=()))).split("[]", 1)
        yield before + "["
        for number, page in enumerate(self.tags):
            yield "," + page if number else page
        yield "]" + after


@attrs.frozen(kw_only=True)
class ReferenceResolved:
    """A reference was resolved to a digest."""

    event: ClassVar[str] = "resolved"

    reference: ImageReference
    digest: Digest
    upstream: str
    repository: RepositoryName


@attrs.frozen
class ManifestPulled:
    """A manifest is stored; `platform` is its platform according to the index, None without one."""

    event: ClassVar[str] = "manifest"

    digest: Digest
    platform: Platform | None


@attrs.frozen(kw_only=True)
class BlobProgress:
    """A blob has grown to `written` of its `size` bytes; `is_held` when it is complete."""

    event: ClassVar[str] = "blob"

    digest: Digest
    size: int
    written: int
    is_held: bool


@attrs.frozen(kw_only=True)
class PullDone:
    """An image is stored: its manifests, blobs and bytes, and how many of the bytes were fetched."""

    event: ClassVar[str] = "done"

    manifests: int
    blobs: int
    bytes: int
    fetched_bytes: int
    seconds: float


@attrs.frozen
class CommandFailed:
    """The command failed after it had reported events."""

    event: ClassVar[str] = "failed"

    message: str
    code: str


@attrs.frozen(kw_only=True)
class VerificationProgress:
    """The bytes and entries hashed so far, and their totals."""

    event: ClassVar[str] = "progress"

    bytes: int
    of_bytes: int
    entries: int
    of_entries: int


@attrs.frozen
class CorruptFound:
    """Content did not match its digest and was set aside; `repositories` can read it."""

    event: ClassVar[str] = "corrupt"

    digest: Digest
    kind: ContentKind
    repositories: tuple[str, ...]


@attrs.frozen
class MissingFound:
    """Content of hosted repositories is missing on the disk."""

    event: ClassVar[str] = "missing"

    digest: Digest
    kind: ContentKind
    repositories: tuple[str, ...]


@attrs.frozen
class ContentFetched:
    """Corrupt or missing content was fetched again."""

    event: ClassVar[str] = "fetched"

    digest: Digest


@attrs.frozen
class ContentLost:
    """Corrupt or missing content could not be fetched again."""

    event: ClassVar[str] = "lost"

    digest: Digest
    message: str


@attrs.frozen(kw_only=True)
class VerificationDone:
    """The verification is complete."""

    event: ClassVar[str] = "done"

    entries: int
    bytes: int
    corrupt: int
    fetched: int
    seconds: float
    missing: int = 0


@attrs.frozen
class Permissions:
    """The principals that may pull, push and delete in a repository, as in `[[access.rules]]`."""

    pull: tuple[str, ...]
    push: tuple[str, ...]
    delete: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Explanation:
    """The state of a reference: its origin, what is stored, its last client, and why it is unavailable."""

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


def removal_pieces(removal: Removal) -> Iterator[str]:
    """Yield a removal as JSON, in pieces that do not take long to encode."""
    whole = ImageReference.of(removal.repository)
    tags = ({"reference": str(attrs.evolve(whole, tag=Tag(tag)))} for tag in removal.tags)
    removed = chain(tags, ({"digest": digest} for digest in removal.digests))
    before = '{"removed":['
    while page := list(islice(removed, REMOVED_PER_PIECE)):
        yield before + ",".join(map(encode, page))
        before = ","
    yield ("" if before == "," else before) + f'],"bytes":{encode(removal.bytes)}}}'


def document(value: Any) -> dict[str, Any]:
    """Return the fields of a frozen value as a JSON document; its event, if it has one, comes first."""
    event = getattr(type(value), "event", None)
    fields = {field.name: _plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return fields if event is None else {"event": event, **fields}


def _plain(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case tuple():
            return [_plain(item) for item in value]
    return str(value) if "__str__" in vars(type(value)) else document(value)


def encode(value: Any) -> str:
    """Return a JSON document as text."""
    return json.dumps(value, separators=(",", ":"))
