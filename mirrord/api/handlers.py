"""Nouns: which resource answers for which route, of mirrored repositories and of hosted ones."""

from collections.abc import Callable
from typing import Self

import attrs

from mirrord.api.blobs import BlobChange, BlobResource
from mirrord.api.body_streams import SendContext
from mirrord.api.hosted import HostedBlobs, HostedManifests
from mirrord.api.manifests import ManifestChange, ManifestResource
from mirrord.api.ports import UseCases
from mirrord.api.referrers import HostedReferrersResource, ReferrersResource
from mirrord.api.resource import ChangingResource, RegistryResource
from mirrord.api.tags import HostedTagsResource, TagsResource
from mirrord.api.uploads import UploadResource
from mirrord.oci.routes import BlobRoute, ManifestRoute, ReferrersRoute, TagsRoute, UploadRoute


@attrs.frozen
class Handlers:
    """Resources by the class of the route: those that are read, and those that change hosted repositories."""

    mirrored: dict[type, RegistryResource]
    hosted: dict[type, RegistryResource]
    changing: dict[type, ChangingResource]

    @classmethod
    def of(
        cls, use_cases: UseCases, default: str, sending: SendContext, make_boundary: Callable[[], str]
    ) -> Self:
        """The resources of a listener whose own upstream is `default`."""
        hosting = use_cases.hosting
        reader = hosting.reader
        return cls(
            {
                ManifestRoute: ManifestResource(use_cases.manifests),
                BlobRoute: BlobResource(use_cases.blobs, sending, make_boundary),
                TagsRoute: TagsResource(use_cases.tags),
                ReferrersRoute: ReferrersResource(use_cases.referrers),
            },
            {
                ManifestRoute: ManifestResource(HostedManifests(reader, hosting.manifests)),
                BlobRoute: BlobResource(HostedBlobs(reader, hosting.blobs), sending, make_boundary),
                TagsRoute: HostedTagsResource(reader),
                ReferrersRoute: HostedReferrersResource(hosting.referrers),
            },
            {
                ManifestRoute: ManifestChange(hosting.pusher, hosting.deleter),
                BlobRoute: BlobChange(hosting.deleter),
                UploadRoute: UploadResource(hosting.uploader, hosting.mounter, use_cases.sources, default),
            },
        )
