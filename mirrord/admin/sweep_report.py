"""What a sweep did, or would do, as the operator is told; as in answers.py."""

from typing import Literal

import attrs

from mirrord.oci.content import ContentKind, Entry
from mirrord.oci.names import RepositoryName


@attrs.frozen
class Victim:
    """An entry of the mirror that a sweep would take away."""

    kind: ContentKind
    name: str
    bytes: int
    idle_seconds: float

    @classmethod
    def of(cls, entry: Entry) -> "Victim":
        """The entry as a victim."""
        return cls(entry.kind, entry.name, entry.size, entry.idle_seconds)


@attrs.frozen
class HostedVictim:
    """A tag, a manifest or a blob that a sweep would take out of a hosted repository, and why."""

    kind: Literal["tag", "manifest", "blob"]
    repository: RepositoryName
    name: str
    reason: str


@attrs.frozen
class HostedSweepReport:
    """What a sweep took out of hosted repositories, or would; `victims` are the first of what it would.

    `entries` and `bytes` are the content that no repository held any more.
    """

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    uploads: int = 0
    entries: int = 0
    bytes: int = 0
    victims: tuple[HostedVictim, ...] = ()


@attrs.frozen
class SweepReport:
    """What a sweep took away of the mirror, or would; `victims` are the first of what it would."""

    is_dry_run: bool
    entries: int
    bytes: int
    victims: tuple[Victim, ...] = ()
    hosted: HostedSweepReport = HostedSweepReport()
