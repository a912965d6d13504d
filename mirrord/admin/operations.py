"""Operations: the operator's use cases of a running daemon."""

from collections.abc import Callable

import attrs

from mirrord.admin.explanation import Explainer
from mirrord.admin.listing import RepositoryLister
from mirrord.admin.pull import ImagePuller
from mirrord.admin.verification import Verifier
from mirrord.gc.collector import Collector
from mirrord.oci.names import RepositoryName
from mirrord.oci.references import ImageReference
from mirrord.repository import Removal
from mirrord.routing import Router


@attrs.frozen(eq=False)
class Remover:
    """Removes content from repositories, also from those that the configuration no longer has."""

    _router: Router

    async def remove(self, reference: ImageReference) -> Removal:
        """Remove a digest, else a tag, else a whole repository.

        Raises:
            NameUnknown, ManifestUnknown: Nothing of it is stored.
            OSError: The disk failed.
        """
        return await self._router.open(reference.key).remove(reference.tag, reference.digest)


@attrs.frozen(kw_only=True)
class Operations:
    """The operator's use cases for one configuration.

    `is_hosted` returns whether a name without a registry means a hosted repository.
    """

    lister: RepositoryLister
    remover: Remover
    collector: Collector
    puller: ImagePuller
    verifier: Verifier
    explainer: Explainer
    is_hosted: Callable[[RepositoryName], bool]
