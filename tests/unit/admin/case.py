"""What the tests of the operator's use cases share."""

import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.hosted.deletion import HostedDeletion
from mirrord.hosted.repository import HostedRepository, HostedServices
from mirrord.mirrored.removal import MirroredRemoval
from mirrord.mirrored.repository import MirroredRepository, MirroredServices
from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.routing import StoredRepositories, UpstreamRoute
from tests.fakes.hosted_repositories import FakeHostedRepositories
from tests.fakes.operating import FakeShelves, FakeUpstream
from tests.fakes.routing import router_of

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
DEBIAN = RepositoryKey("docker.io", RepositoryName("library/debian"))
QUAY = RepositoryKey("quay.io", RepositoryName("a/b"))


class OperateCase(SynchronousTestCase):
    """Repositories over a store and an upstream in memory, and a clock that advances while something runs.

    docker.io allows all but `private/*`. `condition` is why no request would be sent to an upstream.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.shelves = FakeShelves()
        self.hosted = FakeHostedRepositories()
        self.upstream = FakeUpstream()
        self.downloads: dict[Digest, int] = {}
        self.condition: str | None = None
        self.is_hosted = True
        self.router = router_of(
            UpstreamRoute("docker.io", "hub", deny=("private/*",)),
            UpstreamRoute("quay.io", "quay"),
            open_mirrored=self.open_mirrored,
            open_hosted=self.open_hosted,
            stored=StoredRepositories(
                of_upstream=lambda upstream, after, limit: [],
                hosted=self.hosted.repositories,
                mirrored=self.shelves.sources,
                has_hosted=lambda name: bool(list(self.hosted.links(name))),
            ),
        )

    def open_mirrored(self, key: RepositoryKey) -> MirroredRepository:
        upstream: Any = self.upstream
        unused: Any = None
        services = MirroredServices(
            manifests=upstream,
            blobs=upstream,
            tags=unused,
            referrers=unused,
            removal=MirroredRemoval(self.shelves, self.clock),
            index=unused,
            files=unused,
            content=self.shelves,
            problem=lambda _: self.condition,
            downloads=lambda: self.downloads,
            tag_ttl={"docker.io": 300.0, "quay.io": 10.0},
            default_tag_ttl=60.0,
            now=self.clock.seconds,
        )
        return MirroredRepository(key, services)

    def open_hosted(self, key: RepositoryKey) -> HostedRepository:
        hosted: Any = self.hosted
        unused: Any = None
        services = HostedServices(
            links=hosted,
            content=self.shelves,
            blobs=unused,
            manifests=unused,
            referrers=unused,
            uploader=unused,
            mounter=unused,
            pusher=unused,
            deletion=HostedDeletion(links=hosted, graph=hosted, clock=self.clock),
            is_configured=lambda _: self.is_hosted,
            clock=self.clock,
        )
        return HostedRepository(key, services)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
        running = Deferred.fromCoroutine(coroutine)
        self.clock.pump([0.0] * 200)
        return running

    def result(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.successResultOf(self.begin(coroutine))

    def failure(self, coroutine: Coroutine[Any, Any, Any], error: type[Exception]) -> Exception:
        value = self.failureResultOf(self.begin(coroutine), error).value
        assert isinstance(value, Exception)
        return value

    def listen(self, events: AsyncGenerator[T, None]) -> tuple[list[T], Deferred[None]]:
        """What is told, as it is told; the Deferred fires at the end."""
        heard: list[T] = []

        async def hear() -> None:
            async for event in events:
                heard.append(event)  # noqa: PERF401 - told one by one

        return heard, self.begin(hear())

    def all_of(self, events: AsyncGenerator[T, None]) -> list[T]:
        """All that is told."""
        heard, ended = self.listen(events)
        self.successResultOf(ended)
        return heard


def layer(body: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar+gzip") -> Descriptor:
    """What a manifest says of a layer."""
    return Descriptor(media_type, Digest.of(body), len(body))


def image(*layers: Descriptor, note: str = "") -> Manifest:
    """The manifest of an image."""
    listed = [{"mediaType": one.media_type, "digest": str(one.digest), "size": one.size} for one in layers]
    return Manifest.parse(
        json.dumps({"mediaType": OCI_MANIFEST, "layers": listed, "note": note}).encode(), OCI_MANIFEST
    )


def index(**images: Manifest) -> Manifest:
    """An image index, by architecture."""
    listed = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": str(one.digest),
            "size": len(one.body),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, one in images.items()
    ]
    return Manifest.parse(json.dumps({"mediaType": OCI_INDEX, "manifests": listed}).encode(), OCI_INDEX)
