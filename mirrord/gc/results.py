"""The results of a sweep, and of its preview."""

import attrs

from mirrord.oci.content import Entry, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName

MAX_NAMED = 1000
"""How much of its content a preview lists, of each kind."""


@attrs.frozen
class EvictedContent:
    """The number of evicted entries, and the bytes of the disk that they occupied."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "EvictedContent") -> "EvictedContent":
        return EvictedContent(self.count + other.count, self.size + other.size)


@attrs.frozen(kw_only=True)
class HostedSweepResult:
    """Removed from hosted repositories: tags, manifests, blobs of single repositories, uploads.

    `removed` is content that no hosted or mirrored repository was linked to any more.
    """

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    uploads: int = 0
    removed: EvictedContent = EvictedContent()


@attrs.frozen
class HostedSweepPreview:
    """The content that would be removed from hosted repositories.

    `plans` are those of the first MAX_NAMED repositories, and `unreferenced` the first MAX_NAMED blobs that
    no manifest names. What only this removal would make removable is not counted, blobs of its manifests
    for instance.
    """

    result: HostedSweepResult = HostedSweepResult()
    plans: tuple[RetentionPlan, ...] = ()
    unreferenced: tuple[tuple[RepositoryName, Digest], ...] = ()


@attrs.frozen(kw_only=True)
class SweepResult:
    """The result of a sweep. `started_at` is wall clock; `forgotten` counts links and tags of the mirror."""

    started_at: float
    seconds: float
    evicted: EvictedContent
    forgotten: int
    hosted: HostedSweepResult = HostedSweepResult()


@attrs.frozen
class SweepPreview:
    """The totals that a sweep would evict, and the first MAX_NAMED entries."""

    evicted: EvictedContent
    victims: tuple[Entry, ...]
    hosted: HostedSweepPreview = HostedSweepPreview()
