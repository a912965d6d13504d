"""What a store knows about content: its files, its links, its tags, and what hosted repositories keep.

These values are shared by the store, the repositories, the collector and the operator's commands. Content is
stored by digest alone; a *link* is what allows a repository to read it (design invariant 7).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryName, Tag


class ContentKind(StrEnum):
    """What an entry is: committed content, or what an unfinished download left."""

    BLOB = "blob"
    MANIFEST = "manifest"
    PARTIAL = "leftover"


@attrs.frozen
class Entry:
    """One file of a store.

    `name` is unique among its kind: a digest, or a leftover's file name. `size` is what it takes of
    the disk, in bytes; `idle_seconds` is how long nobody has asked for it.
    """

    kind: ContentKind
    name: str
    size: int
    idle_seconds: float


@attrs.frozen
class TagObservation:
    """What an upstream said that a tag names, and when it was last asked (wall clock, seconds)."""

    descriptor: Descriptor
    seen_at: float


@attrs.frozen
class TagRecord:
    """What is known of a tag.

    `cached` names a manifest that is stored; `pending` one that was only seen by HEAD. A pending
    sighting never replaces a cached one: it becomes cached when its manifest is stored, by whatever
    route (design.md, section 3.6).
    """

    cached: TagObservation | None = None
    pending: TagObservation | None = None

    @property
    def newest(self) -> TagObservation | None:
        """What the tag is, as far as is known: what was seen last, cached or not."""
        if self.cached is None or self.pending is None:
            return self.cached or self.pending
        return max(self.cached, self.pending, key=lambda sighting: sighting.seen_at)


@attrs.frozen
class ContentLink:
    """One link of a repository.

    `kind` says what is held under its digest (None: nothing), and `size` what that takes of the disk, in
    bytes. `is_manifest` says that a manifest was stored through this link, not only named by another.
    `used_at` is wall clock, in seconds.
    """

    descriptor: Descriptor
    kind: ContentKind | None
    size: int
    is_manifest: bool
    used_at: float


@attrs.frozen
class CachedTag:
    """A tag of a repository; `used_at` is wall clock, in seconds."""

    tag: Tag
    record: TagRecord
    used_at: float


@attrs.frozen
class HostedLink:
    """That a hosted repository holds a blob or a manifest; `linked_at` is wall clock.

    Of a manifest also: its `subject`, and the `artifact_type` and `annotations` that a list of
    referrers tells of it (distribution-spec, "Listing Referrers").
    """

    descriptor: Descriptor
    is_manifest: bool
    linked_at: float
    subject: Digest | None = None
    artifact_type: str | None = None
    annotations: dict[str, Any] | None = attrs.field(default=None, hash=False)


@attrs.frozen
class HostedManifest:
    """A manifest of a hosted repository.

    `idle_seconds` is how long ago it was pushed, or got or lost a tag. `subject` is what it refers to,
    `children` are the manifests that it names.
    """

    digest: Digest
    size: int
    idle_seconds: float
    subject: Digest | None = None
    children: tuple[Digest, ...] = ()


@attrs.frozen
class HostedTag:
    """A tag of a hosted repository; `age_seconds` is how long it has named this manifest."""

    tag: Tag
    digest: Digest
    age_seconds: float


@attrs.frozen
class RetentionPlan:
    """What goes of a hosted repository: tags, as far as they name that digest still, and manifests.

    `rules` says by the number of which of the operator's rules; what is not in there goes with something
    that is.
    """

    repository: RepositoryName
    tags: tuple[HostedTag, ...] = ()
    manifests: tuple[HostedManifest, ...] = ()
    rules: Mapping[Tag | Digest, int] = attrs.field(factory=dict, hash=False)
