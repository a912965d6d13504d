"""What the operator's use cases need of the collector; as in ports.py, `assembly.py` hands it in."""

from typing import Protocol

from mirrord.oci.content import Entry, RetentionPlan
from mirrord.oci.digest import Digest
from mirrord.oci.names import RepositoryName


class Evicted(Protocol):
    """What has gone, or would go."""

    @property
    def count(self) -> int:
        """How many entries."""
        ...

    @property
    def size(self) -> int:
        """What they took of the disk, in bytes."""
        ...


class HostedSweep(Protocol):
    """What went of hosted repositories, or would go."""

    @property
    def tags(self) -> int:
        """How many tags."""
        ...

    @property
    def manifests(self) -> int:
        """How many manifests of repositories."""
        ...

    @property
    def blobs(self) -> int:
        """How many blobs of repositories."""
        ...

    @property
    def uploads(self) -> int:
        """How many uploads that nobody went on with."""
        ...

    @property
    def removed(self) -> Evicted:
        """The content that no repository was linked to any more."""
        ...


class HostedRehearsal(Protocol):
    """What a sweep would do to hosted repositories."""

    @property
    def sweep(self) -> HostedSweep:
        """All of it."""
        ...

    @property
    def named(self) -> tuple[RetentionPlan, ...]:
        """The first repositories that rules thin out."""
        ...

    @property
    def lone(self) -> tuple[tuple[RepositoryName, Digest], ...]:
        """The first blobs that no manifest names."""
        ...


class Sweep(Protocol):
    """What a sweep did."""

    @property
    def evicted(self) -> Evicted:
        """What went."""
        ...

    @property
    def hosted(self) -> HostedSweep:
        """What went of hosted repositories."""
        ...


class Rehearsal(Protocol):
    """What a sweep would do."""

    @property
    def evicted(self) -> Evicted:
        """All that would go."""
        ...

    @property
    def named(self) -> tuple[Entry, ...]:
        """The first of that."""
        ...

    @property
    def hosted(self) -> HostedRehearsal:
        """The same of hosted repositories."""
        ...


class Collector(Protocol):
    """Who keeps the store within its limits."""

    async def sweep(self) -> Sweep:
        """Sweep now; joins a sweep that runs."""
        ...

    async def preview(self) -> Rehearsal:
        """What a sweep would do now."""
        ...
