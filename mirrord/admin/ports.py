"""What the admin listener needs of the operator's use cases; `assembly.py` hands in the real ones."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

import attrs

from mirrord.admin.results import Explanation, ListedRepository, Removal
from mirrord.gc.collector import Collector
from mirrord.oci.names import RepositoryName
from mirrord.oci.platforms import Platform
from mirrord.oci.references import ImageReference

Events = AsyncGenerator[Any, None]
"""Frozen values, each with its `event`; closed before its end, it stops."""


class Lister(Protocol):
    """Listing repositories."""

    def list(self, pattern: str) -> AsyncGenerator[ListedRepository, None]:
        """The repositories whose name is like the shell pattern, sorted."""
        ...


class Remover(Protocol):
    """Taking things out."""

    async def remove(self, reference: ImageReference) -> Removal:
        """Take out a digest, a tag or a whole repository."""
        ...


class Puller(Protocol):
    """Pulling ahead."""

    def pull(self, reference: ImageReference, platform: Platform | None) -> Events:
        """Have an image here, for a platform or for all."""
        ...


class Verifier(Protocol):
    """Verifying what is at rest."""

    def verify(self) -> Events:
        """Hash everything, and fetch what is damaged."""
        ...


class Explainer(Protocol):
    """Explaining answers."""

    async def explain(self, reference: ImageReference) -> Explanation:
        """All that is known of a reference."""
        ...


@attrs.frozen
class Operations:
    """All that an operator can ask of a running mirror.

    `is_hosted` says which names without a registry are of hosted repositories.
    """

    lister: Lister
    remover: Remover
    collector: Collector
    puller: Puller
    verifier: Verifier
    explainer: Explainer
    is_hosted: Callable[[RepositoryName], bool]
