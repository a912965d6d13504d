"""Metadata of stored content: files, links and tags, of mirrored and of hosted repositories.

These values are shared by the store, the repositories, the collector and the operator's commands. Content is
stored by digest alone; a *link* allows a repository to read it (docs/architecture.md, invariant 7).
"""

from collections.abc import Mapping
from enum import StrEnum

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Descriptor
from mirrord.oci.names import RepositoryName, Tag
from mirrord.oci.referrer import NO_REFERRER, Referrer


class ContentKind(StrEnum):
    """The kind of an entry: committed content, or the partial of a download."""

    BLOB = "blob"
    MANIFEST = "manifest"
    PARTIAL = "leftover"


@attrs.frozen(kw_only=True)
class Entry:
    """One file of a store.

    `name` is unique among its kind: a digest, or a partial's file name. `size` is its size on the disk, in
    bytes; `idle_seconds` is the time since it was last requested.
    """

    kind: ContentKind
    name: str
    size: int
    idle_seconds: float


@attrs.frozen
class TagObservation:
    """The manifest that a tag named at its upstream, as of `observed_at` (wall clock, seconds)."""

    descriptor: Descriptor
    observed_at: float


@attrs.frozen
class TagRecord:
    """The observations of a tag.

    The manifest of `cached` is stored; that of `pending` was only seen by HEAD. A pending observation never
    replaces a cached one: it becomes cached when its manifest is stored by any request (docs/architecture.md,
    invariant 6).
    """

    cached: TagObservation | None = None
    pending: TagObservation | None = None

    @property
    def newest(self) -> TagObservation | None:
        """The latest observation, cached or pending."""
        if self.cached is None or self.pending is None:
            return self.cached or self.pending
        return max(self.cached, self.pending, key=lambda observation: observation.observed_at)


@attrs.frozen(kw_only=True)
class ContentLink:
    """A link of a repository.

    `kind` is that of the content stored under its digest (None: there is none), `size` its size on the disk,
    in bytes. `is_manifest` means that a manifest was stored through this link. `used_at` is wall clock, in
    seconds.
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


@attrs.frozen(kw_only=True)
class HostedLink:
    """A blob or a manifest of a hosted repository; `linked_at` is wall clock, `referrer` a manifest's own."""

    descriptor: Descriptor
    is_manifest: bool
    linked_at: float
    referrer: Referrer = NO_REFERRER


@attrs.frozen(kw_only=True)
class HostedManifest:
    """A manifest of a hosted repository.

    `idle_seconds` is the time since it was pushed, tagged or untagged; `children` are the manifests that it
    references.
    """

    digest: Digest
    size: int
    idle_seconds: float
    subject: Digest | None = None
    children: tuple[Digest, ...] = ()


@attrs.frozen
class HostedTag:
    """A tag of a hosted repository; `age_seconds` is the time since it was set to this manifest."""

    tag: Tag
    digest: Digest
    age_seconds: float


@attrs.frozen(kw_only=True)
class RetentionPlan:
    """The tags and manifests to delete from a hosted repository; a tag only if it still names that digest.

    `rules` contains the number of the operator's rule for each; those without one are deleted along with
    another.
    """

    repository: RepositoryName
    tags: tuple[HostedTag, ...] = ()
    manifests: tuple[HostedManifest, ...] = ()
    rules: Mapping[Tag | Digest, int] = attrs.field(factory=dict, hash=False)
