"""Explanation of a reference, for `mirrord why`: its origin, what is stored, and what prevents a pull.

Nothing is requested from an upstream.
"""

from collections.abc import AsyncIterator, Callable

import attrs

from mirrord.admin.results import Explanation, Permissions
from mirrord.last_clients import LastClients
from mirrord.oci.digest import Digest
from mirrord.oci.errors import RegistryError
from mirrord.oci.manifests import Manifest
from mirrord.oci.platforms import platform_manifests
from mirrord.oci.references import ImageReference
from mirrord.repository import BlobState, ReferenceState, Repository
from mirrord.routing import Router


@attrs.frozen(eq=False, kw_only=True)
class Explainer:
    """Explains references.

    `permissions` returns what the access rules allow in a repository; None if there are no rules.
    """

    _router: Router
    _permissions: Callable[[Repository], Permissions | None]
    _last_clients: LastClients

    async def explain(self, reference: ImageReference) -> Explanation:
        """Return the state of a reference.

        Raises:
            OSError: The disk failed.
        """
        repository, denial = self._locate(reference)
        found = repository.look_up(reference.manifest_reference)
        blobs = await _blobs(repository, found)
        is_stored = found.blob is not None or (found.manifest is not None and found.manifest.is_held)
        is_complete = is_stored and all(blob.state == "held" for blob in blobs)
        is_known = bool(found.tag or found.manifest or blobs)
        digests = [] if found.digest is None else [found.digest]
        request = self._last_clients.last(repository.key, reference.manifest_reference, *digests)
        return Explanation(
            reference=reference,
            upstream=repository.key.upstream,
            repository=repository.key.repository,
            is_known=is_known,
            tag=found.tag,
            manifest=found.manifest,
            blobs=blobs,
            last_client=None if request is None else request.client,
            last_asked_at=None if request is None else request.requested_at,
            why_not=denial or repository.unavailable_because(is_known=is_known, is_complete=is_complete),
            may=self._permissions(repository),
        )

    def _locate(self, reference: ImageReference) -> tuple[Repository, str | None]:
        """Return the repository, and why the configuration does not let clients read it."""
        try:
            return self._router.locate_image(reference), None
        except RegistryError as error:
            return self._router.open(reference.key), error.message


async def _blobs(repository: Repository, found: ReferenceState) -> tuple[BlobState, ...]:
    """Return the blobs of an image, or of those images of an index that are stored; or the blob itself."""
    if found.blob is not None:
        return (found.blob,)
    if found.manifest is None or not found.manifest.is_held:
        return ()
    states: dict[Digest, BlobState] = {}
    async for image in _images(repository, found.manifest.digest):
        states.update((each.digest, repository.blob_state(each)) for each in image.references())
    return tuple(states.values())


async def _images(repository: Repository, digest: Digest) -> AsyncIterator[Manifest]:
    """Iterate over the image of this digest, or over the stored images of an index."""
    waiting, found = [digest], {digest}
    while waiting:
        manifest = await repository.stored_manifest(waiting.pop(0))
        if manifest is None:
            continue
        children = [child.descriptor.digest for child in platform_manifests(manifest)]
        if not children:
            yield manifest
        waiting += [each for each in children if each not in found]
        found.update(children)
