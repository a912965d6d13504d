"""What the tests of the operator's use cases share."""

import json
from collections.abc import AsyncGenerator, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mirrord.oci.digest import Digest
from mirrord.oci.manifests import OCI_INDEX, OCI_MANIFEST, Descriptor, Manifest
from mirrord.oci.names import RepositoryKey, RepositoryName
from mirrord.routing import Router, UpstreamRoute
from tests.fakes.hosted_repositories import FakeHostedRepositories
from tests.fakes.operating import FakeShelves, FakeUpstream

T = TypeVar("T")

UBUNTU = RepositoryKey("docker.io", RepositoryName("library/ubuntu"))
DEBIAN = RepositoryKey("docker.io", RepositoryName("library/debian"))
QUAY = RepositoryKey("quay.io", RepositoryName("a/b"))


class OperateCase(SynchronousTestCase):
    """A store and an upstream in memory, and a clock that goes on by itself as long as something runs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.shelves = FakeShelves()
        self.hosted = FakeHostedRepositories()
        self.upstream = FakeUpstream()
        hub, quay = UpstreamRoute("docker.io", "hub", deny=("private/*",)), UpstreamRoute("quay.io", "quay")
        self.sources = Router.of([hub, quay])

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
