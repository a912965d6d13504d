"""What a hosted repository keeps, as the rules that thin it out see it."""

from collections.abc import Mapping

import attrs

from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName, Tag


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
