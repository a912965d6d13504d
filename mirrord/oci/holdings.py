"""Holdings: what a repository may read and what of that is there, as an operator sees it."""

import attrs

from mirrord.oci.entry import ContentKind
from mirrord.oci.manifests import Descriptor, TagRecord
from mirrord.oci.names import Tag


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
