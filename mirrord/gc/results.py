"""What a sweep did, and what one would do."""

import attrs

from mirrord.oci.content import Entry, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName

MAX_NAMED = 1000
"""How many victims a rehearsal names."""


@attrs.frozen
class EvictedContent:
    """How many entries went, and the bytes of the disk that they took."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "EvictedContent") -> "EvictedContent":
        return EvictedContent(self.count + other.count, self.size + other.size)


@attrs.frozen
class HostedSweepResult:
    """What went of hosted repositories: tags, manifests, blobs of single repositories, uploads.

    `removed` is the content that no hosted or mirrored repository was linked to any more.
    """

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    uploads: int = 0
    removed: EvictedContent = EvictedContent()


@attrs.frozen
class HostedSweepPreview:
    """What would go of hosted repositories, and by name the first MAX_NAMED repositories of it.

    `lone` are the first blobs that no manifest names. Not counted is what would only go because of this,
    blobs of manifests for instance.
    """

    sweep: HostedSweepResult = HostedSweepResult()
    named: tuple[RetentionPlan, ...] = ()
    lone: tuple[tuple[RepositoryName, Digest], ...] = ()


@attrs.frozen
class SweepResult:
    """What a sweep did. `started_at` is wall clock; `forgotten` counts links and tags of the mirror."""

    started_at: float
    seconds: float
    evicted: EvictedContent
    forgotten: int
    hosted: HostedSweepResult = HostedSweepResult()


@attrs.frozen
class SweepPreview:
    """What a sweep would evict, and the first MAX_NAMED of that."""

    evicted: EvictedContent
    named: tuple[Entry, ...]
    hosted: HostedSweepPreview = HostedSweepPreview()
