"""Nouns: which resource answers for which route, of mirrored repositories and of hosted ones."""

from collections.abc import Callable
from typing import Self

import attrs

from mirrord.oci.routes import BlobRoute, ManifestRoute, ReferrersRoute, TagsRoute, UploadRoute
from mirrord.web.blobs import BlobChange, BlobResource
from mirrord.web.hosted import HostedBlobs, HostedManifests
from mirrord.web.manifests import ManifestChange, ManifestResource
from mirrord.web.ports import UseCases
from mirrord.web.referrers import HostedReferrersResource, ReferrersResource
from mirrord.web.resource import ChangingResource, RegistryResource
from mirrord.web.senders import Sending
from mirrord.web.tags import HostedTagsResource, TagsResource
from mirrord.web.uploads import UploadResource


@attrs.frozen
class Nouns:
    """Resources by the class of the route: those that are read, and those that change hosted repositories."""

    mirrored: dict[type, RegistryResource]
    hosted: dict[type, RegistryResource]
    changing: dict[type, ChangingResource]

    @classmethod
    def of(
        cls, use_cases: UseCases, default: str, sending: Sending, make_boundary: Callable[[], str]
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
