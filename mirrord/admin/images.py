"""Images: what a manifest stands for, as far as it is here."""

from collections.abc import AsyncIterator

from mirrord.admin.store_ports import Inventory
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import Manifest
from mirrord.oci.platforms import platform_manifests


async def images_of(inventory: Inventory, digest: Digest) -> AsyncIterator[Manifest]:
    """The image of this digest, or those images of an index that are held.

    Raises:
        OSError: The disk failed.
    """
    waiting, known = [digest], {digest}
    while waiting:
        manifest = await inventory.manifest(waiting.pop(0))
        if manifest is None:
            continue
        offered = [offer.descriptor.digest for offer in platform_manifests(manifest)]
        if not offered:
            yield manifest
        waiting += [one for one in offered if one not in known]
        known.update(offered)
